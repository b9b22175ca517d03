"""How a run stands: `observe` looks and asks, `judge` decides and touches nothing, `verdict` remembers.

`assess` does all three.
"""
