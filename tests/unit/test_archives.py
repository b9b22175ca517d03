"""What is known of archives outside the repository, and what becomes of it when they cannot be reached."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from mllam_exps.stages import versions
from mllam_exps.stages.neural_lam.data import archives


def test_source_archives(tmp_path: Path) -> None:
    zarr = tmp_path / "far.zarr"
    zarr.mkdir()
    (zarr / "zarr.json").write_bytes(b"{}")
    (tmp_path / "plain.nc").write_bytes(b"CDF")
    datastore = {
        "inputs": {
            "near": {"path": "examples/near.zarr"},
            "far": {"path": str(zarr)},
            "gone": {"path": "/no/such.zarr"},
            "file": {"path": str(tmp_path / "plain.nc")},
            "up": {"path": "../data/up.zarr"},
        }
    }
    found, notes = archives.identities(datastore, {"far": "2025-12", "gone": 3})
    digest = "sha256:" + hashlib.sha256(b"{}").hexdigest()
    assert found["far"] == {"path": str(zarr), "metadata": digest, "version": "2025-12"}
    assert found["gone"] == {"path": "/no/such.zarr", "metadata": None, "version": "3"}
    assert set(found) == {"far", "gone", "file", "up"}
    assert len(notes) == 3
    assert any("archive gone" in note and "no such file" in note for note in notes)
    assert any(
        "archive file" in note and "params.yaml: archives.file" in note
        for note in notes
    )


def test_remote_archive(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://bucket/a.zarr/.zmetadata", "wb") as file:
        file.write(b"{}")
    found, notes = archives.identities(
        {"inputs": {"a": {"path": "memory://bucket/a.zarr/"}}}, {}
    )
    assert found["a"]["metadata"] == "sha256:" + hashlib.sha256(b"{}").hexdigest()
    assert notes == []
    found, notes = archives.identities(
        {"inputs": {"a": {"path": "nosuch://bucket/a.zarr"}}}, {"a": "1"}
    )
    assert found["a"]["metadata"] is None
    assert "nosuch" in notes[0] and "declared version (1)" in notes[0]


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """A host that answers with the status that its `status` says."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = b"{}" if self.server.status == 200 else b""  # type: ignore[attr-defined]
            self.send_response(self.server.status)  # type: ignore[attr-defined]
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

        do_HEAD = do_GET  # noqa: N815 - http.server's name

        def log_message(self, *_: object) -> None:
            return

    host = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=host.serve_forever, daemon=True)
    thread.start()
    yield host
    host.shutdown()
    host.server_close()


KNOWN = {"path": "", "metadata": "sha256:1", "version": None}


@pytest.mark.parametrize("status", [404, 503, 0])
def test_not_reached_is_not_changed(server: HTTPServer, status: int) -> None:
    pytest.importorskip("aiohttp")
    url = (
        f"http://127.0.0.1:{server.server_port}/a.zarr"
        if status
        else "http://127.0.0.1:9/a.zarr"
    )
    server.status = status  # type: ignore[attr-defined]
    datastore = {"inputs": {"a": {"path": url}}}
    found, notes = archives.identities(datastore, {}, {"a": KNOWN | {"path": url}})
    assert found["a"]["metadata"] == "sha256:1"
    assert notes[0].endswith("it counts as unchanged")
    # A host that says that nothing is there was reached.
    assert bool(archives.why_not_reached(url)) == (status != 404)


@pytest.mark.parametrize("other", [{"path": "/elsewhere.zarr"}, {"version": "2"}])
def test_what_was_known_of_another_archive_does_not_count(
    other: dict[str, Any],
) -> None:
    known = {"a": KNOWN | {"path": "/gone.zarr"} | other}
    found, _ = archives.identities({"inputs": {"a": {"path": "/gone.zarr"}}}, {}, known)
    assert found["a"]["metadata"] is None


def test_what_was_known_is_read_from_dvc_lock_where_the_versions_are_yet_to_be_written(
    tmp_path: Path,
) -> None:
    assert archives.last_known(tmp_path) == {}
    known = {"a": KNOWN, "b": KNOWN | {"metadata": None}}
    lock = {
        "stages": {
            "prepare_dataset": {"params": {"version.mllam.txt": {"archives": known}}}
        }
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert archives.last_known(tmp_path) == {"a": KNOWN}
    newer = KNOWN | {"metadata": "sha256:2"}
    (tmp_path / "version.mllam.txt").write_text(
        yaml.safe_dump({"archives": {"a": newer}})
    )
    assert archives.last_known(tmp_path) == {"a": newer}
    (tmp_path / "version.mllam.txt").write_text("a: [")
    assert archives.last_known(tmp_path) == {"a": KNOWN}


def test_modules_of_derived_variables_count_where_nothing_else_tells_their_version(
    tmp_path: Path,
) -> None:
    functions = [
        "mllam_data_prep.ops.f",
        "metpy.calc.f",
        "own.f",
        "package.sub.f",
        "numpy.sqrt",
    ]
    (tmp_path / "own.py").touch()
    (tmp_path / "package").mkdir()
    derived = {
        str(place): {"function": function} for place, function in enumerate(functions)
    }
    given = {
        "inputs": {
            "a": {"derived_variables": derived},
            "b": {"derived_variables": {"c": None}},
        }
    }
    assert archives.modules(given, tmp_path) == ["metpy", "numpy"]
    assert versions.of_module("yaml") == f"PyYAML {yaml.__version__}"
    assert versions.of_module("nosuchmodule") == "absent"


def test_a_module_that_no_program_names_counts_by_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mllam_loose.py").write_text("a = 1")
    before = versions.of_module("mllam_loose")
    (tmp_path / "mllam_loose.py").write_text("a = 2")
    assert before.startswith("d") and versions.of_module("mllam_loose") != before
