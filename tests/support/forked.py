"""`mllam-exps` and `dvc` as a user types them, without the time that their imports take.

Two thirds of the processor time of a short command are its imports. Here one process
for each of pytest's workers imports what the command needs, once, and each command is a
fork of it: a process of its own with the arguments, environment, directory, input and
output that it was given, which runs the program's `main` to its end. What is to be
killed is started as a real command (`Experiment.start`), as is all that other programs
start: jobs, DVC's stages, git's hooks. DVC's commands that start stages are real ones,
too: a stage looks for their command line.

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MAINS = {"mllam-exps": "mllam_exps.cli", "dvc": "dvc.cli"}
START_STAGES = {"repro", "run", "queue"}
# What a command imports of DVC where it needs it.
LAZY = (
    "dvc.dvcfile",
    "dvc.fs.dvc",
    "dvc.repo.experiments",
    "dvc.repo.fetch",
    "dvc.repo.graph",
    "dvc.repo.index",
    "dvc.stage.cache",
    "networkx",
    "scmrepo.git.backend.dulwich",
)
NUMBER = struct.Struct("!i")


def serves(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Tell whether a fork would do what the command does, to the letter."""
    program = argv[0]
    if program not in MAINS or os.environ.get("MLLAM_TESTS_FORK") == "0":
        return False
    if program == "dvc" and START_STAGES.intersection(argv):
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
    from mllam_exps import commands

    for name in MAINS.values():
        importlib.import_module(name)
    for module in pkgutil.walk_packages(commands.__path__, f"{commands.__name__}."):
        importlib.import_module(module.name)
    for name in LAZY:
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
    main = importlib.import_module(MAINS[_become(_serve(listening, lifeline))]).main
    try:
        sys.exit(main())
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            _end(left.code or 0)
        raise
