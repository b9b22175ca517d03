"""What we change in Neural-LAM, and in the libraries below it, while it runs: one file for each change.

``python -m mllam_exps.stages.neural_lam.patches`` lists them; with a name behind it, it
prints the issue that asks the program's authors to make the patch unnecessary.
"""
