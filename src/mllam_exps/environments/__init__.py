"""The same environment again: which one an experiment had, how another differs, and how to make it.

What an environment is, and how it is read, stands in `stages.packages`; each attempt of a
stage of Neural-LAM's writes down its own.
"""
