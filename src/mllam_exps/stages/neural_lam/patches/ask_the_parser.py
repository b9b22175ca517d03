"""neural-lam's arguments are read from its parsers, which it makes inside of its programs.

The change itself stands in `mllam_exps.stages.neural_lam.programs.tell_arguments`: it
runs in an interpreter that may not have this package.
"""

from __future__ import annotations

from mllam_exps.stages.patch import Issue, Patch

PATCH = Patch(
    name="ask_the_parser",
    purpose="parameters are checked against the arguments of the neural-lam that is installed",
    tried={"neural-lam": ("0.7.0",)},
    spots={
        "neural_lam.train_model:main": "parse_args",
        "neural_lam.create_graph_with_wmg:cli": "parse_args",
    },
    until="neural-lam has functions that return its parsers",
    issue=Issue(
        repository="mllam/neural-lam",
        title="Return the argument parsers from functions of their own, with their choices",
        body="""\
The parsers of `train_model.main` and `create_graph_with_wmg.cli` are made inside of these functions.
Whoever wants to check arguments before a job waits in a queue for hours, complete them in a shell, or
write them down in a documentation, has to replace `argparse.ArgumentParser.parse_args` and run the
program up to there.

Proposal: `build_parser() -> argparse.ArgumentParser` in both modules, called by `main` and `cli`. And
`choices=` where the code knows them: `--loss` (`metrics.DEFINED_METRICS`), `--mesh_aggr`, `--precision`
(Lightning's).
""",
    ),
)
