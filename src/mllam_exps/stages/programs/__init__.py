"""The programs that stages start: wrappers that make other people's programs fail aloud and stay offline.

Nothing here is imported by ``mllam-exps`` itself: each module is run, ``python -m
mllam_exps.stages.programs.<name>``, in the environment that holds the model programs.
"""
