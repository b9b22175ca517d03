"""``dvc.yaml`` as a graph of stages, and the run keys of its stages.

A run key is the digest of all that defines a run's result. It is *input-addressed*: an input that another stage makes
counts by that stage's own key, so the keys of a whole experiment are known before anything has run. A source input
counts by its content. External archives, which nobody hashes, stand in ``version.mllam.txt`` with the digest of their
metadata, and so come in as parameters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps import dvc_index
from mllam_exps.dvc_index import digest_of_source, is_ours, open_repo, stage_name
from mllam_exps.errors import UsageError
from mllam_exps.outputs import md5_of_file
from mllam_exps.store import key_of

if TYPE_CHECKING:
    from dvc.output import Output as DvcOutput
    from dvc.repo import Repo
    from dvc.stage import Stage as DvcStage

KEY_FORMAT = 1
"""Raised by us when the meaning of a key changes: older results are then no longer found."""

VERSIONS_FILE = "version.mllam.txt"

SHORTENED_IN_SMOKE = {"train", "evaluate"}
"""The stages that `mllam-exps smoke` runs on one batch; dataset and graph are the real ones, and are kept."""

IRRELEVANT = {"num_workers"}
"""Parameters that say how fast, not what: they never make a result stale in the run store."""


def holds(file: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Tell whether a parameter file says what DVC read from it: values by (dotted) name."""
    try:
        return all((file[name] if name in file else _lookup(file, name)) == value for name, value in values.items())
    except KeyError:
        return False


@dataclass(frozen=True)
class Input:
    """One input of a stage.

    Parameters
    ----------
    path : str
        Relative to the repository's root.
    run : str or None
        Key of the run that makes it, if a stage of ours does.
    digest : str or None
        Its content's hash as DVC writes it (MD5, ``.dir`` behind a folder's), where it is known.
    tracked : bool
        Whether DVC's cache holds it (made by a stage or added with ``dvc add``), else git does.
    """

    path: str
    run: str | None
    digest: str | None
    tracked: bool

    def identity(self) -> dict[str, str | None]:
        """Return what counts in the key."""
        return {"run": self.run} if self.run else {"md5": self.digest}


@dataclass(frozen=True)
class Output:
    """One output of a stage; `cached` says whether DVC's cache holds it, else git does."""

    path: str
    cached: bool


@dataclass(frozen=True)
class RunDefinition:
    """All that defines the result of one stage's work, and its key."""

    stage: str
    params: Mapping[str, Mapping[str, Any]]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    smoke: bool = False
    commands: tuple[str, ...] = ()
    """Those of a stage that is not ours, for a shell: they make the result what it is."""
    folder: str = "."
    """Where they are run, seen from the repository's root."""

    @property
    def key(self) -> str:
        """``<stage>-<32 hexadecimal digits>``, with the stage's odd characters as in URLs."""
        content = {
            "format": KEY_FORMAT,
            "stage": self.stage,
            "params": {file: _relevant(values) for file, values in self.params.items()},
            "inputs": {i.path: i.identity() for i in self.inputs},
            "outputs": sorted(o.path for o in self.outputs),
            "smoke": self.smoke,
        }
        if self.commands:
            content["command"] = "\n".join(self.commands)
            if self.folder != ".":
                content["folder"] = self.folder
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
        return key_of(self.stage, hashlib.sha256(text.encode()).hexdigest()[:32])

    @property
    def versions(self) -> Mapping[str, Any]:
        """The program versions that the result depends on, by the (dotted) names that ``dvc.yaml`` gives."""
        return self.params.get(VERSIONS_FILE, {})

    def to_record(self) -> dict[str, Any]:
        """Return the JSON-able record that the run store keeps."""
        return {
            "key": self.key,
            "stage": self.stage,
            "params": self.params,
            "inputs": {i.path: {"run": i.run, "md5": i.digest} for i in self.inputs},
            "outputs": {o.path: {"cached": o.cached} for o in self.outputs},
            "smoke": self.smoke,
        } | ({"commands": self.commands, "folder": self.folder} if self.commands else {})


def _relevant(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what counts of a parameter file: 1.0 is 1, and null is as good as nothing."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in values.items()
        if name not in IRRELEVANT and value is not None
    }


def _lookup(mapping: Mapping[str, Any], dotted: str) -> Any:
    """Follow ``a.b`` through nested mappings; KeyError where it leads nowhere."""
    value: Any = mapping
    for part in dotted.split("."):
        if not isinstance(value, Mapping):
            raise KeyError(dotted)
        value = value[part]
    return value


class Pipeline:
    """The stages of one workspace.

    Parameters
    ----------
    repo : dvc.repo.Repo
        The opened repository. Opening takes no lock, so that this works inside a stage's command.
    versions : callable
        Returns the content of ``version.mllam.txt`` as it would be written now; called at most once.
    known_result : callable
        Given a run key and an output's path, the digest that the run store knows for it, or None.
    trust_lock : bool
        Whether ``dvc.lock`` says what the inputs are now. True inside a stage's command: DVC has seen to it. False
        where keys are asked for before anything has run: then the lock may still describe an earlier state.
    ask_dvc : bool
        Whether an input that the run store does not know counts with the content that DVC knows for it.
    smoke : bool
        Whether training and evaluation are those of `mllam-exps smoke`.
    content : callable
        Given DVC's object for an input that no stage makes, and its path, the digest of what it holds now.
    """

    def __init__(
        self,
        repo: Repo,
        versions: Callable[[], Mapping[str, Any]],
        known_result: Callable[[str, str], str | None] = lambda _key, _path: None,
        *,
        trust_lock: bool = True,
        ask_dvc: bool = False,
        smoke: bool = False,
        content: Callable[[Any, str], str] | None = None,
    ) -> None:
        self.repo = repo
        self.root = Path(repo.root_dir)
        self.trust_lock = trust_lock
        self.ask_dvc = ask_dvc
        self.smoke = smoke
        self._content = content or digest_of_source
        self._versions_source = versions
        self._versions: Mapping[str, Any] | None = None
        self._known_result = known_result
        self._definitions: dict[str, RunDefinition] = {}
        self._known_to_dvc: dict[str, Mapping[str, Any]] = {}

    @classmethod
    def open(cls, root: Path, versions: Callable[[], Mapping[str, Any]], **options: Any) -> Pipeline:
        """Open the DVC repository at `root`.

        Raises
        ------
        UsageError
            If there is none, or ``dvc.yaml`` is not valid.
        """
        return cls(open_repo(root), versions, **options)

    @property
    def stage_names(self) -> list[str]:
        """The stages of ``dvc.yaml``, in order of writing."""
        return [stage_name(s) for s in self.repo.index.stages if not s.is_data_source]

    def in_order(self, names: Iterable[str] | None = None) -> list[str]:
        """Return the stages, by default all, and those that they need, each behind those whose outputs it reads."""
        ordered: list[str] = []

        def add(name: str) -> None:
            if name not in ordered:
                for need in self.needs(name):
                    add(need)
                ordered.append(name)

        for name in self.stage_names if names is None else names:
            add(name)
        return ordered

    def needs(self, name: str) -> list[str]:
        """Return the stages whose outputs a stage reads."""
        makers = [stage for dep in self.dvc_stage(name).deps for stage, _ in self._makers(dep.fs_path)]
        return list(dict.fromkeys(stage_name(stage) for stage in makers if not stage.is_data_source))

    def dvc_stage(self, name: str) -> DvcStage:
        """Return DVC's own object for a stage.

        Raises
        ------
        UsageError
            If ``dvc.yaml`` has no such stage; the nearest one is named.
        """
        for stage in self.repo.index.stages:
            if not stage.is_data_source and stage_name(stage) == name:
                return stage
        import difflib

        near = difflib.get_close_matches(name, self.stage_names, 1)
        raise UsageError(
            f"no stage {name!r} in dvc.yaml",
            next=f"did you mean {near[0]}?" if near else f"its stages are: {', '.join(self.stage_names)}",
        )

    def versions(self) -> Mapping[str, Any]:
        """Return the versions of the programs as they are now."""
        if self._versions is None:
            self._versions = self._versions_source()
        return self._versions

    def definition(self, name: str) -> RunDefinition:
        """Return what defines the result of stage `name` as the workspace is now."""
        if name not in self._definitions:
            stage = self.dvc_stage(name)
            self._definitions[name] = RunDefinition(
                stage=name,
                params=self._params(stage),
                inputs=tuple(i for dep in stage.deps if dep.hash_name != "params" for i in self._inputs(dep)),
                outputs=tuple(Output(self.relative(o.fs_path), bool(o.use_cache)) for o in stage.outs),
                smoke=self.smoke and name in SHORTENED_IN_SMOKE,
                commands=() if is_ours(stage) else dvc_index.commands(stage),
                folder=self.relative(stage.wdir),
            )
        return self._definitions[name]

    def known_to_dvc(self, name: str) -> Mapping[str, Any]:
        """Return what DVC knows of a stage's result: its outputs by path; empty where it knows nothing."""
        if name not in self._known_to_dvc:
            from mllam_exps import dvc_results

            self._known_to_dvc[name] = (dvc_results.known(self, name) if self.ask_dvc else None) or {}
        return self._known_to_dvc[name]

    def digest_of(self, source: Input) -> str | None:
        """Return the digest that the run store knows for an input that a run makes, or None."""
        return self._known_result(source.run, source.path) if source.run else None

    def added(self, path: str) -> dict[str, Any] | None:
        """Describe an input that was added with `dvc add`, as its ``.dvc`` file does; None where it was not."""
        added = (out for stage, out in self._makers(str(self.root / path)) if stage.is_data_source)
        out = next((out for out in added if Path(out.fs_path) == self.root / path), None)
        return out and {"digest": out.hash_info.value, "size": out.meta.size, "files": out.meta.nfiles}

    def added_inputs(self, name: str) -> list[str]:
        """Return the outputs of `dvc add` that a stage reads."""
        makers = [found for dep in self.dvc_stage(name).deps for found in self._makers(dep.fs_path)]
        return [self.relative(out.fs_path) for stage, out in makers if stage.is_data_source]

    def relative(self, path: str) -> str:
        """Return a path as seen from the repository's root.

        Raises
        ------
        UsageError
            If it lies elsewhere.
        """
        try:
            return Path(path).relative_to(self.root).as_posix()
        except ValueError:
            what = "lies outside of the repository, and no run can be known by it"
            raise UsageError(
                what, path, "dvc.yaml names it", "put it into the repository, or dvc add it there"
            ) from None

    def _params(self, stage: DvcStage) -> dict[str, dict[str, Any]]:
        params: dict[str, dict[str, Any]] = {}
        for dep in stage.deps:
            if dep.hash_name != "params":
                continue
            file = self.relative(dep.fs_path)
            if file == VERSIONS_FILE:
                # The file is made by a stage: what it says is known only after that has run. A key counts what it
                # would say, so that keys are known beforehand, and the attempt is held to it.
                params[file] = self._tracked_versions(stage_name(stage), dep.params)
            else:
                params[file] = dvc_index.parameters(self.repo.index, dep, file)
                missing = sorted(set(dep.params) - set(params[file]))
                if missing:
                    raise UsageError(
                        f"the key {missing[0]} is missing",
                        where=file,
                        why=f"stage {stage_name(stage)} in dvc.yaml depends on it",
                        next=f"add it to {file}",
                    )
        return params

    def _tracked_versions(self, stage: str, names: list[str]) -> dict[str, Any]:
        tracked = {}
        for name in names:
            try:
                tracked[name] = _lookup(self.versions(), name)
            except KeyError:
                raise UsageError(
                    f"stage {stage} depends on the version of {name!r}, which is not written down",
                    where="dvc.yaml",
                    next=f"use one of: {', '.join(self.versions())}",
                ) from None
        return tracked

    def _makers(self, path: str) -> list[tuple[DvcStage, DvcOutput]]:
        """Return the stages, with their outputs, that `path` is, lies in, or contains."""
        return dvc_index.makers(self.repo.index).of(path)

    def _inputs(self, dep: Any) -> Iterator[Input]:
        """Yield what a dependency means: itself; or, where it is a folder with outputs in it, each of these."""
        makers = self._makers(dep.fs_path)
        inside = [(stage, out) for stage, out in makers if Path(dep.fs_path) in Path(out.fs_path).parents]
        for stage, out in inside:
            yield self._made(self.relative(out.fs_path), stage, out, out)
        if inside:
            yield from self._beside(dep, inside)
        elif makers:
            yield self._made(self.relative(dep.fs_path), *makers[0], dep)
        else:
            path = self.relative(dep.fs_path)
            yield Input(path, None, self._content(dep, path), tracked=False)

    def _beside(self, dep: Any, inside: list[tuple[DvcStage, DvcOutput]]) -> Iterator[Input]:
        """Yield the files of a folder that no stage makes, beside those that stages do."""
        made = {Path(out.fs_path) for _, out in inside}
        for file in sorted(self.repo.dvcignore.find(self.repo.fs, dep.fs_path)) if dep.exists else ():
            path = Path(file)
            if path.name != ".gitignore" and made.isdisjoint({path, *path.parents}):
                yield Input(self.relative(file), None, md5_of_file(path), tracked=False)

    def _made(self, path: str, stage: DvcStage, out: DvcOutput, wanted: Any) -> Input:
        """Describe an input that a stage makes, or `dvc add` has added; `wanted` is the output, or a part of it."""
        digest = out.hash_info.value if out.hash_info and out.fs_path == wanted.fs_path else None
        if stage.is_data_source:
            # The hash in the .dvc file is the content; hashing terabytes again would tell no more.
            return Input(path, None, digest or self._content(wanted, path), tracked=True)
        if not self.trust_lock:
            digest = None
        key = self.definition(stage_name(stage)).key
        known = self._known_result(key, path)
        if digest and known and digest != known:
            # Somebody committed another content by hand, or it came from a remote: that is what counts then.
            return Input(path, None, digest, tracked=True)
        if digest is None and known is None:
            digest = self.known_to_dvc(stage_name(stage)).get(path, {}).get("digest")
        return Input(path, key, digest, tracked=bool(out.use_cache))
