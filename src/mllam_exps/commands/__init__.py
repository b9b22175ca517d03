"""One module for each command of ``mllam-exps``: what it does, and what it prints. The rooms are those of `cli`."""
