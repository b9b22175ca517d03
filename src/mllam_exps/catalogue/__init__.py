"""The team's catalogue: every member's experiments, found by parameter, score, data, parent, person, tag, date, state.

`search` finds them: `query` reads what is typed, `names` what a shortened name means.
`gathering` looks for them: those that were submitted (`submitted`), those that `dvc exp
run` ran (`asked`), and those that git keeps (`in_git`, `commits`). `index` remembers
for one user what was read of them. `marks` are tags and notes.
"""
