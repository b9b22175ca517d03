"""Saves an experiment whose results are all there: ``dvc.lock``, and one commit in the repository that it came from.

``save.save`` is called by the job that made the last result (``afterwards``), most often,
and else by the experiment's own last job (``last_job``); what the commit holds is made in
``commit``, and ``lock_entries`` says what ``dvc.lock`` tells of inputs and outputs.
"""
