"""Experiments as chains of jobs: planned, submitted, gone on with, saved, cleaned up.

Nothing is left running on the login node for them.
"""
