"""Submitting again what failed of an experiment.

``changed_files`` sees what was edited since it was submitted, ``refused`` what keeps it from going on, and ``again``
submits its jobs.
"""
