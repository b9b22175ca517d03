"""One module for each command of ``mllam-exps``: what it does, and what it prints."""
