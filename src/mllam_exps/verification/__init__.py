"""Scores of forecasts, one for each forecast, and differences between them with their significance.

It serves the stage `verify`; `mllam-exps verify`, which looks for damage, is another
thing. Nothing here knows of a stage, a model or a repository: datasets come in, datasets go
out. Forecasts have the dimensions ``reference_time``, ``lead_time`` and a grid's, truth
has ``time`` and the same grid's; `layout` says more. Scores have the form of the
community's scorecards (`scorecard`). ``docs/verification.md`` has the formulas.
"""
