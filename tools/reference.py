"""What the site of `make docs` has beside docs/: pages made of the program, and of files that lie elsewhere.

A hook of MkDocs, named in mkdocs.yml. It writes no file into the repository, so what
it makes cannot become stale.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from mllam_exps.cli import app
from mllam_exps.machines.model import Settings

ROOT = Path(__file__).parents[1]

ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "SECURITY.md": "security.md",
    "examples/north-atlantic-2025/README.md": "north-atlantic-2025.md",
    "examples/danra-baseline/README.md": "danra-baseline.md",
}
"""Files of the repository that are pages, too, and the page's name."""

FOLDER = "docs/"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    pages = {"commands.md": commands(), "machine-files.md": machine_files()}
    for path, page in ELSEWHERE.items():
        pages[page] = relinked((ROOT / path).read_text(encoding="utf-8"), path)
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def relinked(text: str, path: str) -> str:
    """Return a file's text with its links to other files pointing to their pages."""

    def page(link: re.Match[str]) -> str:
        address, anchor = link["address"], link["anchor"] or ""
        if ":" in address:
            return link[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), address))
        name = ELSEWHERE.get(target, target.removeprefix(FOLDER))
        return f"]({name}{anchor})"

    return re.sub(r"\]\((?P<address>[^)#\s]+)(?P<anchor>#[^)]*)?\)", page, text)


def commands() -> str:
    """Return the reference of the commands, as their own help texts have it."""
    command = typer.main.get_command(app)
    return get_docs_for_click(
        obj=command, ctx=typer.Context(command), name="mllam-exps", title="Commands"
    )


def machine_files() -> str:
    """Return the reference of machine files, from the model that checks them."""
    schema = Settings.model_json_schema()
    lines = [
        "# Machine files",
        "",
        "Every key of `machines/<name>.yaml`. [Machines](machines.md) says how to use them.",
        "",
    ]
    sections(schema, schema, "", lines)
    return "\n".join(lines) + "\n"


def sections(
    schema: dict[str, Any], whole: dict[str, Any], path: str, lines: list[str]
) -> None:
    """Add the table of one mapping's keys, and then the mappings below it."""
    below = []
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, field in schema["properties"].items():
        name = f"{path}{key}"
        inner = mapping_of(field, whole)
        value = "see below" if inner else kind(field, whole)
        if inner:
            below.append(inner_section(name, inner))
        default = "needed" if key in schema.get("required", []) else default_of(field)
        meaning = field.get("description", "")
        lines.append(f"| `{name}` | {value} | {default} | {meaning} |")
    lines.append("")
    for name, inner in below:
        lines += [f"## `{name}`", "", inner.get("description", ""), ""]
        sections(inner, whole, f"{name}.", lines)


def inner_section(name: str, inner: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name and the schema of a mapping; that of one with free names has a place for them."""
    if "properties" in inner:
        return name, inner
    stages: dict[str, Any] = inner["additionalProperties"]
    return f"{name}.STAGE", stages


def mapping_of(field: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema of a field that is a mapping with keys of its own, else None."""
    field = resolved(field, whole)
    if "properties" in field:
        return field
    for choice in field.get("anyOf", ()):
        if "properties" in resolved(choice, whole):
            return resolved(choice, whole)
    free = resolved(field.get("additionalProperties") or {}, whole)
    return {"additionalProperties": free} if "properties" in free else None


def resolved(field: Any, whole: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference within the schema points to."""
    if not isinstance(field, dict):
        return {}
    if "$ref" in field:
        return {**whole["$defs"][field["$ref"].rpartition("/")[2]]}
    return field


def kind(field: dict[str, Any], whole: dict[str, Any]) -> str:
    """Return in words what a field takes."""
    field = resolved(field, whole)
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(kind(one, whole) for one in field["anyOf"]))
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {kind(field.get('items', {}), whole)}"
    if field.get("type") == "object":
        return f"mapping to {kind(field.get('additionalProperties', {}), whole)}"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    types = field.get("type", "anything")
    names = [types] if isinstance(types, str) else types
    return " or ".join(words.get(name, name) for name in names)


def default_of(field: dict[str, Any]) -> str:
    """Return a field's default as YAML has it."""
    default = field.get("default")
    return "" if default in (None, {}, []) else f"`{json.dumps(default)}`"
