"""What runs in the stages' environment: Neural-LAM and mllam-data-prep, made to fail aloud.

Each is a module for ``python -m``, and imports nothing of ours but what it must.
"""
