"""One run: its records in the run store, its attempts, its outputs, and how it stands.

The run store is documented in docs/run-store.md. How a run stands is found out in three
steps: `observe` looks and asks, `judge` says what follows from what was `seen`, and
`verdict` remembers the scheduler's last word; `assess` does all three.
"""
