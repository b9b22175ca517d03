"""One run: its records in the run store, its attempts, its outputs, and how it stands.

The run store is documented in docs/run-store.md.
"""
