"""The stages of ``dvc.yaml`` as a graph: what each of them reads, its run key, and what DVC knows of its result."""
