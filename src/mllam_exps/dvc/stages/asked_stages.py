"""Which stages of ``dvc.yaml`` an experiment has: those that were asked for, and those that they need."""

from __future__ import annotations

from collections.abc import Sequence

from mllam_exps.base.errors import UsageError
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.stages.pipeline import Pipeline


def asked_stages(
    pipeline: Pipeline, repo: Repository, targets: Sequence[str]
) -> list[str]:
    """Return the stages asked for, all if none is named, and those that they need, in order.

    Parameters
    ----------
    repo : Repository
        The user's own.

    Raises
    ------
    UsageError
        If there is none of that name, or none at all.
    """
    to_follow: list[str] = []
    for target in targets:
        to_follow += _group(pipeline, target)
    if not targets:
        for stage in pipeline.stage_names:
            if not pipeline.stage(stage).is_elsewhere:
                to_follow.append(stage)
    if not to_follow:
        raise _no_stages(repo)
    wanted: set[str] = set()
    while to_follow:
        stage = to_follow.pop()
        if stage not in wanted:
            wanted.add(stage)
            to_follow += pipeline.needs(stage)
    return [stage for stage in pipeline.in_order() if stage in wanted]


def _group(pipeline: Pipeline, target: str) -> set[str]:
    """Return the stages that a name means: that stage, or all that ``foreach`` or ``matrix`` makes of it."""
    group = {stage for stage in pipeline.stage_names if stage.startswith(f"{target}@")}
    if not group:
        pipeline.stage(target)  # refuses what there is not
        return {target}
    return group


def _no_stages(repo: Repository) -> UsageError:
    if repo.is_ignored_by_git("dvc.yaml"):
        # Even where git tracks it: DVC (3.67) leaves it out when it looks for stages.
        return UsageError(
            "has no stages",
            "dvc.yaml",
            "git ignores it, and so DVC does not read it",
            "git check-ignore -v --no-index dvc.yaml names the rule to remove",
        )
    way_out = "mllam-exps init DIRECTORY has one to start from"
    return UsageError("has no stages", "dvc.yaml", next=way_out)
