"""What an attempt is told of those that may follow it: the machine file's rules, as they fit its stage."""

from __future__ import annotations

from mllam_exps.base.endings.causes import Cause
from mllam_exps.machines import values
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.model import MoreMemory
from mllam_exps.runs.continuation import Rules
from mllam_exps.runs.spec import rules_of
from mllam_exps.runs.state.judge import Assessment
from mllam_exps.stages.contract import Stage


def rules(
    machine: Machine, name: str, stage: Stage, number: int, after: Assessment
) -> Rules:
    """Return the rules for attempt `number` at a stage.

    Parameters
    ----------
    name : str
        The stage's, by which the machine file gives it resources.
    after : Assessment
        How the run stood when it was decided to start this one: where it goes on by
        itself, the attempts before count, and more memory than before is asked for.
    """
    before = Rules()
    if after.another_follows and after.attempt is not None:
        before = rules_of(after.attempt)
    memory = before.memory or machine.resources_for(name).memory
    if after.another_follows and after.cause is Cause.HOST_MEMORY:
        memory = more_memory(memory, machine.retry.host_memory)
    return Rules(
        again=_again(machine, stage, memory),
        max_attempts=machine.retry.max_attempts,
        since=before.since if after.another_follows else number,
        resumes=stage.has_checkpoints,
        memory=memory,
    )


def _again(machine: Machine, stage: Stage, memory: str | None) -> frozenset[Cause]:
    """Return the causes after which another attempt makes sense."""
    rules = machine.retry
    wanted = {cause for cause in Cause if getattr(rules, cause, None) == "again"}
    if Cause.ERROR in wanted:
        wanted.add(Cause.INPUT)  # a machine file has one rule for both
    if more_memory(memory, rules.host_memory) != memory:
        wanted.add(Cause.HOST_MEMORY)
    if not stage.has_checkpoints:
        # From the beginning it would meet its time limit once more.
        wanted.discard(Cause.TIME_LIMIT)
    return frozenset(wanted)


def more_memory(memory: str | None, rule: object) -> str | None:
    """Return what the next job asks for after one that ran out of memory: more, as far as the rule lets it."""
    if not isinstance(rule, MoreMemory) or memory is None:
        return memory
    megabytes, ceiling = values.megabytes(memory), values.megabytes(rule.up_to)
    # 0 is all the memory that a node has.
    if not megabytes or megabytes >= ceiling:
        return memory
    return f"{min(round(megabytes * rule.factor), ceiling)}M"
