"""`mllam-exps` and `dvc` as a user types them, without the time that their imports take.

Two thirds of the processor time of a short command are its imports. Here one process
for each of pytest's workers imports what the command needs, once, and each command is a
fork of it: a process of its own with the arguments, environment, directory, input and
output that it was given, which runs the program's `main` to its end. What DVC starts
as `mllam-exps run STAGE` is a fork as well: of a process that stands between the two,
where the shell stands, and has seen nothing of DVC's work. What is to be killed is
started as a real command (`Experiment.start`), with all that it starts; and so are jobs,
programs and git's hooks. DVC's queue and its experiments in folders of their own are
real ones, too: DVC starts them as commands.

``MLLAM_TESTS_FORK=0`` makes all of them real commands; measuring coverage does, too.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import re
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

MAINS = {"mllam-exps": "mllam_exps.cli", "dvc": "dvc.cli"}
START_STAGES = {"repro", "run"}
# Where DVC starts itself as another process.
REAL_ONES = {"queue", "--temp", "--run-all"}
# What commands import where they need it. (Not pygit2: it keeps the home that it finds.)
LAZY = (
    "antlr4.LL1Analyzer",
    "celery.app.amqp",
    "celery.fixups.django",
    "celery.loaders.app",
    "celery.worker.state",
    "configobj",
    "dulwich.ignore",
    "dulwich.porcelain",
    "dulwich.stash",
    "dulwich.worktree",
    "dvc._debug",
    "dvc.cachemgr",
    "dvc.cli.parser",
    "dvc.data_cloud",
    "dvc.dirs",
    "dvc.dvcfile",
    "dvc.fs.dvc",
    "dvc.repo.artifacts",
    "dvc.repo.brancher",
    "dvc.repo.datasets",
    "dvc.repo.experiments.collect",
    "dvc.repo.experiments.executor.local",
    "dvc.repo.experiments.queue.celery",
    "dvc.repo.experiments.queue.tempdir",
    "dvc.repo.experiments.queue.workspace",
    "dvc.repo.experiments.run",
    "dvc.repo.experiments.show",
    "dvc.repo.fetch",
    "dvc.repo.graph",
    "dvc.repo.index",
    "dvc.repo.open_repo",
    "dvc.repo.plots",
    "dvc.repo.reproduce",
    "dvc.repo.stage",
    "dvc.repo.trie",
    "dvc.stage.cache",
    "dvc.stage.run",
    "dvc.ui.table",
    "dvc.utils.hydra",
    "dvc.utils.strictyaml",
    "dvc_data.hashfile._progress",
    "dvc_data.hashfile.db.local",
    "dvc_data.hashfile.status",
    "dvc_data.index.checkout",
    "dvc_render.vega",
    "dvc_task.app",
    "dvc_task.proc.manager",
    "fsspec.implementations.memory",
    "hydra",
    "hydra.core.override_parser.overrides_parser",
    "mllam_exps.stages.neural_lam.data.archives",
    "networkx",
    "pydantic.type_adapter",
    "rich.console",
    "rich.markup",
    "rich.table",
    "scmrepo.git.backend.dulwich",
    "shtab",
    "typer._adapters",
    "typer._click.decorators",
)
OURS = (
    "mllam_exps.commands",
    "mllam_exps.schedulers",
    "mllam_exps.stages.neural_lam.parameters",
    "mllam_exps.views",
)
NUMBER = struct.Struct("!i")


def serves(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Tell whether a fork would do what the command does, to the letter."""
    program = argv[0]
    if program not in MAINS or os.environ.get("MLLAM_TESTS_FORK") == "0":
        return False
    if program == "dvc" and REAL_ONES.intersection(argv):
        return False
    if any(name.startswith("COVERAGE") for name in os.environ):
        return False
    # What the interpreter reads when it starts is that of the process that forks.
    for name in env.keys() | os.environ.keys():
        is_read = name.startswith(("PYTHON", "LC_", "LANG")) and name != "PYTHONPATH"
        if is_read and env.get(name) != os.environ.get(name):
            return False
    return shutil.which(program, path=env.get("PATH")) == str(_script(program))


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
    stderr: int,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a fork, as `subprocess.run` with ``stdout=PIPE, text=True`` would.

    Raises
    ------
    subprocess.TimeoutExpired
        If it did not end within `timeout` seconds; it was killed.
    """
    request = json.dumps({"argv": list(argv), "cwd": str(cwd), "env": dict(env)})
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.socket(socket.AF_UNIX))
        connection.connect(_server())
        outputs: dict[int, bytes] = {}
        given = [stack.enter_context(Path(os.devnull).open("rb")).fileno()]
        pipes = []
        for kind in (subprocess.PIPE, stderr):
            if kind == subprocess.STDOUT:
                given.append(given[1])
            elif kind == subprocess.DEVNULL:
                given.append(os.open(os.devnull, os.O_WRONLY))
            else:
                reading, writing = os.pipe()
                pipes.append(reading)
                given.append(writing)
        body = request.encode()
        socket.send_fds(connection, [NUMBER.pack(len(body))], given)
        connection.sendall(body)
        for descriptor in set(given[1:]):
            os.close(descriptor)
        pid = _number(connection)
        until = time.monotonic() + timeout
        try:
            outputs = _read(pipes, until)
            connection.settimeout(max(until - time.monotonic(), 0.001))
            code = _number(connection)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(argv), timeout) from None
        finally:
            for descriptor in pipes:
                os.close(descriptor)
    texts = [outputs[pipe].decode() for pipe in pipes]
    return subprocess.CompletedProcess(
        argv, code, texts[0], texts[1] if len(texts) > 1 else None
    )


def _read(pipes: Sequence[int], until: float) -> dict[int, bytes]:
    """Read the pipes to their ends, which come when nobody can write to them any more."""
    found = dict.fromkeys(pipes, b"")
    with selectors.DefaultSelector() as open_ones:
        for pipe in pipes:
            open_ones.register(pipe, selectors.EVENT_READ)
        while open_ones.get_map():
            ready = open_ones.select(until - time.monotonic())
            if not ready and time.monotonic() >= until:
                raise TimeoutError
            for key, _ in ready:
                if read := os.read(key.fd, 1 << 16):
                    found[key.fd] += read
                else:
                    open_ones.unregister(key.fd)
    return found


def _script(program: str) -> Path:
    return Path(sys.prefix) / "bin" / program


@functools.cache
def _server() -> str:
    """Start the process that forks, and return the address of its socket."""
    folder = tempfile.mkdtemp(prefix="mllam-forks-")
    address = f"{folder}/socket"
    mine, its = socket.socketpair()
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        subprocess.Popen(
            [sys.executable, __file__, str(listening.fileno()), str(its.fileno())],
            pass_fds=(listening.fileno(), its.fileno()),
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=environ,
        )
    its.close()

    def end() -> None:
        mine.close()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return address


def _number(connection: socket.socket) -> int:
    found = connection.recv(NUMBER.size, socket.MSG_WAITALL)
    if len(found) < NUMBER.size:
        raise ConnectionError("the process that forks commands is gone")
    return int(NUMBER.unpack(found)[0])


def _import_all() -> None:
    for name in MAINS.values():
        importlib.import_module(name)
    for name in OURS:
        path = importlib.import_module(name).__path__
        for module in pkgutil.walk_packages(path, f"{name}."):
            importlib.import_module(module.name)
    for stage in entry_points(group="mllam_exps.stages"):
        stage.load()
    for name in LAZY:
        # What another version of its package does not have costs time, and nothing else.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _serve(listening: socket.socket, lifeline: socket.socket) -> dict[str, Any]:
    """Fork for each command until the worker is gone; return in the forks alone, with what is to be run."""
    with selectors.DefaultSelector() as both:
        both.register(listening, selectors.EVENT_READ)
        both.register(lifeline, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in both.select()}
            if lifeline in ready:
                os._exit(0)
            if listening in ready:
                connection, _ = listening.accept()
                if os.fork() == 0:
                    break
                connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    listening.close()
    lifeline.close()
    return _keep(connection)


def _keep(connection: socket.socket) -> dict[str, Any]:
    """Wait for the command and say how it ended; return in the command's own process."""
    head, descriptors, _, _ = socket.recv_fds(connection, NUMBER.size, 3)
    [size] = NUMBER.unpack(head)
    body = b""
    while len(body) < size:
        body += connection.recv(size - len(body))
    pid = os.fork()
    if pid:
        for descriptor in descriptors:
            os.close(descriptor)
        connection.sendall(NUMBER.pack(pid))
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))
        os._exit(0)
    connection.close()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    request: dict[str, Any] = json.loads(body)
    return request


def _become(request: Mapping[str, Any]) -> str:
    """Make of this process what the command's would be when its script begins; return which program."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    tempfile.tempdir = None
    program, *arguments = request["argv"]
    script = _script(program)
    sys.argv = [str(script), *arguments]
    found = os.environ.get("PYTHONPATH", "")
    sys.path[:1] = [
        str(script.parent),
        *(part for part in found.split(os.pathsep) if part),
    ]
    return str(program)


class _AsDvcStartsIt:
    """What DVC calls `subprocess` where it starts a stage's command: ours is a fork, any other a process."""

    def __init__(self, shell: socket.socket) -> None:
        self.shell = shell

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, words: Sequence[str], **options: Any) -> Any:  # noqa: N802 - its name
        """Start a command, and return what DVC waits for."""
        argv = words[-1].split()
        is_plain = re.fullmatch(r"[\w ./=-]+", words[-1])
        if not is_plain or argv[0] == "dvc" or not serves(argv, options["env"]):
            return subprocess.Popen(words, **options)
        sys.stdout.flush()
        request = {"argv": argv, "cwd": str(options["cwd"]), "env": options["env"]}
        body = json.dumps(request).encode()
        self.shell.sendall(NUMBER.pack(len(body)) + body)
        done = types.SimpleNamespace(returncode=0)

        def communicate() -> None:
            done.returncode = _number(self.shell)

        done.communicate = communicate
        return done


def _stand_as_shell(of_dvc: Sequence[str]) -> dict[str, Any] | None:
    """Stand between DVC and its stages, in a process of its own; return in DVC's, and in each stage's with it."""
    dvc = os.getpid()
    its, mine = socket.socketpair()
    if os.fork():
        mine.close()
        run = importlib.import_module("dvc.stage.run")
        run.subprocess = _AsDvcStartsIt(its)  # type: ignore[attr-defined]
        return None
    its.close()
    Path("/proc/self/comm").write_text("sh")
    while head := mine.recv(NUMBER.size, socket.MSG_WAITALL):
        [size] = NUMBER.unpack(head)
        body = mine.recv(size, socket.MSG_WAITALL)
        if pid := os.fork():
            _, status = os.waitpid(pid, 0)
            with contextlib.suppress(BrokenPipeError):
                mine.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))
            continue
        mine.close()
        Path("/proc/self/comm").write_text(json.loads(body)["argv"][0])
        _tell_command_line(dvc, [str(_script(of_dvc[0])), *of_dvc[1:]])
        request: dict[str, Any] = json.loads(body)
        return request
    os._exit(0)


def _tell_command_line(pid: int, words: list[str]) -> None:
    """Let a stage find the command line that DVC's fork would have as a command: it looks for what was asked for."""
    from mllam_exps.base.processes import ProcessIdentity

    read = ProcessIdentity.command

    def command(self: ProcessIdentity) -> list[str]:
        return words if self.pid == pid and self.alive() else read(self)

    ProcessIdentity.command = command  # type: ignore[method-assign]


def _end(code: int) -> None:
    """End as an interpreter does, without taking apart all that was imported."""
    threading._shutdown()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _import_all()
    # Forks share the memory of what was imported as long as the collector does not touch it.
    gc.freeze()
    listening, lifeline = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    request = _serve(listening, lifeline)
    argv = request["argv"]
    if argv[0] == "dvc" and START_STAGES.intersection(argv):
        request = _stand_as_shell(argv) or request
    main = importlib.import_module(MAINS[_become(request)]).main
    try:
        sys.exit(main())
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            _end(left.code or 0)
        raise
