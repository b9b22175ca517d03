"""What the stage `verify` does: the truth of the dataset, the program that scores, and what comes of it in few words.

How forecasts are scored, whatever they come from, stands in `mllam_exps.verification`.
"""
