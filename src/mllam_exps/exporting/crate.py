"""Describes an export as a Workflow Run RO-Crate: ``ro-crate-metadata.json``, the convention of the field.

What each term means: https://w3id.org/ro/wfrun/workflow/0.5, which builds on
https://w3id.org/ro/wfrun/process/0.5 and https://w3id.org/workflowhub/workflow-ro-crate/1.0.
"""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from mllam_exps.exporting.contents import Part

WORKFLOW, README = "dvc.yaml", "README.md"
VERSION = "1.1"
"""Of RO-Crate, on which the profile of a workflow's run builds."""
BUILT_ON = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    BUILT_ON: ("Workflow RO-Crate", "1.0"),
}
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
FORMATS = {
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".lock": "application/yaml",
    ".cff": "application/yaml",
    ".md": "text/markdown",
    ".py": "text/x-python",
    ".toml": "application/toml",
    "": "text/plain",
}
"""Media types that Python does not know on every system; of files without a suffix most are text."""
SCHEMA = "http://schema.org/"
NO_LICENCE = (
    "No licence is stated in the repository: ask its authors before you use this."
)
PYPI = "https://pypi.org/project/"


@dataclass(frozen=True)
class Ran:
    """One stage of the experiment.

    Parameters
    ----------
    stage, command : str
        Its name, and what was run.
    reads, makes : tuple of str
        Paths of its inputs and outputs.
    parameters : mapping
        Their values by ``file:key``.
    begun, ended : float or None
        When it ran, in seconds since 1970; None where that is not recorded here.
    """

    stage: str
    command: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    parameters: Mapping[str, str]
    begun: float | None = None
    ended: float | None = None


@dataclass(frozen=True)
class Described:
    """What is said of an experiment.

    Parameters
    ----------
    name, description, commit, author : str
        The experiment's; its commit and who made that.
    at : float
        When its commit was made, in seconds since 1970.
    licence : str
        An identifier of SPDX's, or empty.
    programs : mapping
        The versions of its programs.
    files : sequence of str
        The files that git has of it.
    parts : sequence of Part
        Its inputs and outputs.
    ran : sequence of Ran
        Its stages.
    dvc : str
        DVC's version.
    adopted : mapping
        Of outputs that no stage made here: where each came from, by path.
    """

    name: str
    description: str
    commit: str
    author: str
    at: float
    licence: str
    programs: Mapping[str, str]
    files: Sequence[str]
    parts: Sequence[Part]
    ran: Sequence[Ran]
    dvc: str
    adopted: Mapping[str, str] = field(default_factory=dict)


def write(folder: Path, said: Described) -> None:
    """Write the description into a folder in which its parts lie."""
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version=VERSION)
    crate.metadata.append_to("conformsTo", {"@id": BUILT_ON})
    _Describing(crate, said).all()
    crate.metadata.write(folder)


class _Describing:
    """Adds what there is to say to a crate."""

    def __init__(self, crate: Any, said: Described) -> None:
        self.crate, self.said = crate, said
        self._by_path: dict[str, Any] = {}
        self._author = self._entity("#author", "Person", name=said.author)

    def all(self) -> None:
        """Add everything."""
        root, said = self.crate.root_dataset, self.said
        root["name"] = said.name
        root["description"] = said.description
        root["datePublished"] = _iso(time.time())
        root["dateCreated"] = _iso(said.at)
        root["author"] = self._author
        root["identifier"] = said.commit
        root["license"] = self._licence()
        root["conformsTo"] = [
            self._entity(one, "CreativeWork", name=name, version=version)
            for one, (name, version) in PROFILES.items()
        ]
        self._add_files()
        for part in said.parts:
            self._add_part(part)
        workflow = self._workflow()
        root["mainEntity"] = workflow
        root["mentions"] = [*self._actions(workflow)]

    def _entity(self, called: str, kind: str, /, **said: Any) -> Any:
        from rocrate.model import ContextEntity

        properties = {"@type": kind} | {k: v for k, v in said.items() if v is not None}
        return self.crate.add(ContextEntity(self.crate, called, properties=properties))

    def _licence(self) -> Any:
        if not self.said.licence:
            return NO_LICENCE
        url = f"https://spdx.org/licenses/{quote(self.said.licence)}"
        return self._entity(url, "CreativeWork", name=self.said.licence)

    def _add_files(self) -> None:
        described = {WORKFLOW, *(part.path for part in self.said.parts)}
        for path in self.said.files:
            if path in described:
                continue
            said = {"name": path, "encodingFormat": _format(path)}
            one = self.crate.add_file(dest_path=path, properties=said)
            if path == README:
                one["about"] = self.crate.root_dataset
            self._by_path[path] = one

    def _add_part(self, part: Part) -> None:
        role = "made by a stage" if part.is_output else "read by a stage"
        said: dict[str, Any] = {
            "name": part.path,
            "description": self.said.adopted.get(part.path, role),
            "identifier": f"md5:{part.digest}",
        }
        if part.size is not None:
            said["contentSize"] = str(part.size)
        if not part.inside:
            one = self._named(part)
        elif part.is_folder:
            one = self.crate.add_dataset(dest_path=part.path, properties=said)
        else:
            said["encodingFormat"] = _format(part.path)
            one = self.crate.add_file(dest_path=part.path, properties=said)
        self._by_path[part.path] = one

    def _named(self, part: Part) -> Any:
        """Return what stands for a part that is not in the crate: a file or folder of a crate has to be in it."""
        size = f", {part.size} bytes" if part.size is not None else ""
        return self._entity(
            f"#data/{quote(part.path)}",
            "PropertyValue",
            name=part.path,
            value=f"md5:{part.digest}",
            description=f"not in this crate{size}: DVC has it by this hash",
        )

    def _workflow(self) -> Any:
        from rocrate.model import ComputationalWorkflow, ComputerLanguage

        language = self.crate.add(
            ComputerLanguage(
                self.crate,
                "https://dvc.org",
                properties={
                    "name": "DVC",
                    "url": {"@id": "https://dvc.org"},
                    "version": self.said.dvc,
                },
            )
        )
        said = {
            "name": WORKFLOW,
            "version": self.said.commit,
            "encodingFormat": _format(WORKFLOW),
            "conformsTo": {"@id": BIOSCHEMAS},
        }
        workflow = self.crate.add(
            ComputationalWorkflow(self.crate, dest_path=WORKFLOW, properties=said)
        )
        workflow["programmingLanguage"] = language
        workflow["softwareRequirements"] = [
            self._entity(
                f"{PYPI}{quote(name)}/{quote(version)}/",
                "SoftwareApplication",
                name=name,
                softwareVersion=version,
                url=f"{PYPI}{quote(name)}/",
            )
            for name, version in self.said.programs.items()
        ]
        workflow["input"] = _one_or_all([self._slot(path) for path in self._given])
        workflow["output"] = _one_or_all([self._slot(path) for path in self._made])
        return workflow

    @property
    def _given(self) -> list[str]:
        """The paths of what the workflow reads: inputs, and files with parameters."""
        read = [part.path for part in self.said.parts if not part.is_output]
        for one in self.said.ran:
            read += [key.partition(":")[0] for key in one.parameters]
        made = {*self._made}
        return [
            path
            for path in dict.fromkeys(read)
            if path in self._by_path and path not in made
        ]

    @property
    def _made(self) -> list[str]:
        return [part.path for part in self.said.parts if part.is_output]

    def _slot(self, path: str) -> Any:
        """Return what stands for an input or output in the workflow itself."""
        value = self._by_path[path]
        kind = {"PropertyValue": "Text"}.get(value.type, value.type)
        slot = self._entity(
            f"#slot/{quote(path)}", "FormalParameter", name=path, additionalType=kind
        )
        slot["workExample"] = value
        value["exampleOfWork"] = slot
        return slot

    def _actions(self, workflow: Any) -> Iterator[Any]:
        said = self.said
        begun = [one.begun for one in said.ran if one.begun is not None]
        ended = [one.ended for one in said.ran if one.ended is not None]
        together = Ran(
            said.name,
            "all stages, each as its own action says",
            tuple(self._given),
            tuple(self._made),
            {},
            min(begun, default=None),
            max(ended, default=said.at),
        )
        yield self._action("#run", f"experiment {said.name}", workflow, together)
        for one in said.ran:
            stage = quote(one.stage)
            program = self._entity(
                f"#stage/{stage}",
                "SoftwareApplication",
                name=one.stage,
                description=one.command,
                softwareVersion=said.commit,
            )
            name = f"stage {one.stage} of {said.name}"
            yield self._action(f"#run/{stage}", name, program, one)

    def _action(self, identifier: str, name: str, instrument: Any, ran: Ran) -> Any:
        action = self._entity(
            identifier,
            "CreateAction",
            name=name,
            description=ran.command,
            startTime=_iso(ran.begun),
            endTime=_iso(ran.ended),
            actionStatus=f"{SCHEMA}CompletedActionStatus",
        )
        action["instrument"] = instrument
        action["agent"] = self._author
        read = [self._by_path[path] for path in ran.reads if path in self._by_path]
        action["object"] = _one_or_all([*read, *self._parameters(ran)])
        made = [self._by_path[path] for path in ran.makes if path in self._by_path]
        action["result"] = _one_or_all(made)
        return action

    def _parameters(self, ran: Ran) -> Iterator[Any]:
        for key, value in ran.parameters.items():
            identifier = f"#parameter/{quote(ran.stage)}/{quote(key)}"
            yield self._entity(identifier, "PropertyValue", name=key, value=value)


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    # As the profile's validator wants it (roc-validator 0.13 takes no Z).
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(seconds))


def _one_or_all(values: Sequence[Any]) -> Any:
    """Return a single value as itself, as RO-Crate writes it."""
    return values[0] if len(values) == 1 else list(values)


def _format(path: str) -> str:
    """Return the media type of a file, by its name."""
    known = FORMATS.get(PurePosixPath(path).suffix) or mimetypes.guess_type(path)[0]
    return known or "application/octet-stream"
