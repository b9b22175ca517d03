"""Where stages run: machine files, the environment that a stage gets, and the workspace that we are in.

A result never depends on any of it.
"""
