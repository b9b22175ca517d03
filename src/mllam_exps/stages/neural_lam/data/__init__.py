"""Checks of the dataset's description and of the archives that it is made of, before anything is submitted.

Each finds what mllam-data-prep or Neural-LAM would find hours later, and names file and
key.
"""
