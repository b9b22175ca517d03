"""Drafts the ``dvc.lock`` of an experiment when it is planned, of its pipeline; `lockfile` completes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mllam_exps.dvc.lockfile import Draft, StageDraft
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.identity.content import md5_of_file


def draft(
    pipeline: Pipeline,
    stages: Sequence[str],
    sources: Mapping[str, Any],
    ignoring: Collection[str] = (),
) -> Draft:
    """Draft the lock file of the stages asked for, as the workspace is now.

    Parameters
    ----------
    stages : sequence of str
        Each behind those that it needs.
    sources : mapping
        Described inputs that no stage makes.
    ignoring : collection of str
        The ``.gitignore`` files that are written when outputs have been made: one that
        is not there yet counts as made.
    """
    drafts = {name: _stage(pipeline, name) for name in stages}
    files = {"dvc.yaml", *sources} | {
        file for stage in drafts.values() for file in _parameter_files(stage)
    }
    frozen = {
        path: md5_of_file(pipeline.root / path)
        for path in sorted(files)
        if (pipeline.root / path).is_file()
    }
    new = [path for path in ignoring if not (pipeline.root / path).exists()]
    made = sorted([*pipeline.made(), *new])
    return Draft(pipeline.repository.cache, drafts, frozen, made)


def _stage(pipeline: Pipeline, name: str) -> StageDraft:
    stage = pipeline.stage(name)
    return StageDraft(
        folder=pipeline.relative(stage.wdir),
        cmd=stage.cmd,
        deps=[dep.name for dep in stage.deps],
        params=pipeline.parameters_of(name),
        outs={out.name: out.cached for out in stage.outs},
    )


def _parameter_files(stage: StageDraft) -> list[str]:
    return [stage.path(name) for name in stage.params]
