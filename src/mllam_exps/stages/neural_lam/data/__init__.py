"""Checks of data: of a dataset's description and archives, before anything is submitted; of the dataset, once made.

Each finds what mllam-data-prep or Neural-LAM would find hours later, and names file and
key. `zarr_check` and `finite_check` look at a dataset that was made.
"""
