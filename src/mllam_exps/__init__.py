"""Run, resume, compare and share Neural-LAM experiments, on one machine and on Slurm clusters."""

__version__ = "0.1.0"
