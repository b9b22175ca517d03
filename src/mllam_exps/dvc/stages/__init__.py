"""The stages of ``dvc.yaml``: what each of them reads, its run key, and what DVC knows of its result.

`mllam_exps.dvc.graph` has them as plain data.
"""
