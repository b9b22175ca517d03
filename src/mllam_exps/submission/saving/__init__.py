"""Saves an experiment whose results are all there: ``dvc.lock``, and one commit in the repository that it came from.

``save.save`` is called by every job that may; what the commit holds is made in
``commit``, and ``lock_entries`` says what ``dvc.lock`` tells of inputs and outputs.
"""
