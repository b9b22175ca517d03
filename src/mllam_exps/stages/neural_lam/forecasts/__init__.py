"""Forecasts that are kept: their layout, the store that they are written to, and who writes which.

`layout` and `grid` say what a store of forecasts looks like, `store` writes one forecast
at a time into it, `claims` shares the work between processes. What a program is told is
a `plan`.
"""
