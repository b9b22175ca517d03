"""One page by which a researcher decides: experiments on common cases, ranked, with a scorecard against a reference.

`evidence` reads what the stages of an experiment have left, `comparison` puts several
on common cases, and `content` says what of that is shown. `page` writes it as one HTML
file that fetches nothing, with what `charts` and `maps` draw, and `details`, which a click
opens; `figures` as files for a paper. `notation` has the colours and signs of both,
and `wording` how numbers are written.
"""
