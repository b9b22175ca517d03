"""Inputs of stages that nobody has: DVC finds out when it comes to that stage, after a night's work perhaps."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mllam_exps.base.errors import UsageError
from mllam_exps.dvc.command_line import DvcCommand
from mllam_exps.dvc.graph import Dep, StageEntry, StageGraph
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.stages import sources
from mllam_exps.identity.run_keys import base_name


def missing_inputs(repository: Repository, asked: DvcCommand) -> Iterator[UsageError]:
    """Yield what is wrong with stages whose inputs are missing, and made by no stage."""
    for stage in _wanted(repository.graph, asked):
        if stage.frozen:
            continue  # DVC takes its outputs as they are
        for dep in stage.deps:
            if _is_missing(repository.graph, dep):
                found = sources.missing(repository, dep.path)
                where = f"dvc.yaml: {stage.name}"
                yield UsageError(found.what, where, found.why, found.next)


def _is_missing(graph: StageGraph, dep: Dep) -> bool:
    if os.path.exists(dep.path):  # noqa: PTH110 - DVC follows links, too
        return False
    return all(maker.is_added for maker, _ in graph.makers(dep.path))


def _wanted(graph: StageGraph, asked: DvcCommand) -> list[StageEntry]:
    """Return the stages that DVC comes to."""
    if not asked.targets:
        return [one for one in graph.stages.values() if not one.is_elsewhere]
    wanted: dict[str, StageEntry] = {}
    to_follow = [
        stage
        for name, stage in graph.stages.items()
        if {name, base_name(name)} & set(asked.targets)
    ]
    while to_follow:
        stage = to_follow.pop()
        wanted[stage.name] = stage
        if not asked.alone:
            to_follow += [one for one in _needs(graph, stage) if one.name not in wanted]
    return list(wanted.values())


def _needs(graph: StageGraph, stage: StageEntry) -> Iterator[StageEntry]:
    """Yield the stages that make what a stage depends on."""
    for dep in stage.deps:
        for maker, _ in graph.makers(dep.path):
            if not maker.is_added:
                yield maker
