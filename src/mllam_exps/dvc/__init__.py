"""What DVC knows and how it is told: ``dvc.yaml`` as a graph of stages, ``dvc.lock``, its cache, `-S`.

DVC is imported in this package only.
"""
