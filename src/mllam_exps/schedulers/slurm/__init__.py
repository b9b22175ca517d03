"""Slurm: how jobs are submitted, asked for and cancelled, and what its ambiguous answers mean.

Slurm is known here, and nowhere else.
"""
