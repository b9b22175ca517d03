"""One page by which a researcher decides: experiments on common cases, ranked, with a scorecard against a reference.

`evidence` reads what the stages of an experiment have left, `comparison` puts several
on common cases, `charts` and `maps` draw, and `page` writes one HTML file that fetches
nothing.
"""
