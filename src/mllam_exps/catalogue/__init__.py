"""The team's catalogue: every member's experiments, found by parameter, score, data, parent, person, tag, date, state.

`query` reads what is typed, `names` finds what a shortened name means, `gathering`
looks for experiments: those that were submitted (`submitted`), those that `dvc exp run`
ran (`asked`), and those that git keeps (`in_git`). `index` remembers what was read of
them, for one user. `marks` are tags and notes.
"""
