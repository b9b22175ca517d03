"""Experiments as chains of jobs: planned, submitted, gone on with, saved, cleaned up.

Nothing is left running on the login node for them. `planning` makes clones and run keys,
`entering` puts them into the run store, `job_chain` submits, `backlog` submits what
waited, `afterwards` and `last_job` are what jobs do at their end, `saving` makes the
commit, `standing` says how an experiment stands.
"""
