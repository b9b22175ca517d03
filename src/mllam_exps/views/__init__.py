"""Rows, tables and sentences about experiments, which several commands print.

They are gathered from the run store and from DVC's saved experiments.
"""
