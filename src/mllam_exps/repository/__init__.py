"""The user's git repository: what a checkout holds at one moment, and frozen copies of it for experiments.

A copy is the checkout's own bytes; nothing that is edited later gets into it. What DVC
knows of it is `mllam_exps.dvc.repository`'s.
"""
