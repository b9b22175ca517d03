"""The environment around a program: its order, what fails aloud, and that nothing is expanded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import Exit, MllamError
from mllam_exps.machines.environment import (
    FAILED,
    prologue,
    python,
    variables,
    wrap,
)
from mllam_exps.machines.machine_files import load
from mllam_exps.schedulers import child_environment
from mllam_exps.stages import versions

SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))"
# What a site's module system brings, in small: `module load` sets a variable, or fails.
MODULE = """
module() {
  [ "$1" = load ] || return 2
  case "$2" in
    missing/*) echo "Unable to locate $2" >&2; return 1;;
    python/*) export PYTHONHOME=/nowhere; PATH="/module/bin:$PATH";;
  esac
  echo "$UNSET_VARIABLE_IS_FINE" >/dev/null
  export LOADED="$LOADED $2"
}
"""


@pytest.fixture
def machine(tmp_path):
    def machine(text=""):
        folder = tmp_path / "machines"
        folder.mkdir(exist_ok=True)
        (folder / "x.yaml").write_text("scheduler: local\n" + text)
        return load(tmp_path, "x")

    return machine


@pytest.fixture
def site(tmp_path, monkeypatch):
    init = tmp_path / "site" / "init"
    init.mkdir(parents=True)
    (init / "bash").write_text(MODULE)
    monkeypatch.setenv("MODULESHOME", str(init.parent))
    monkeypatch.setenv("LMOD_PKG", "/nowhere")
    monkeypatch.delenv("BASH_ENV", raising=False)


def run(command, **options):
    return subprocess.run(
        command, capture_output=True, text=True, check=False, **options
    )


def shown(machine, root, *arguments):
    done = run(wrap(machine, root, [sys.executable, "-c", SHOW, *arguments]))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


AWKWARD = [
    "",
    "a b",
    "$(touch /tmp/never)",
    "`id`",
    "a;b",
    "'",
    '"',
    "\n",
    "*",
    "-n",
    "é",
]


def test_without_modules_or_scripts_there_is_no_bash(machine, tmp_path):
    ours = machine(
        "environment: {venv: /v, variables: {A: 'x; y', B: 3}}\npaths: {cartopy_data: /maps}\n"
    )
    assert "bash" not in wrap(ours, tmp_path, ["true"])
    arguments, environ, _ = shown(ours, tmp_path, *AWKWARD)
    assert arguments == AWKWARD
    assert (environ["A"], environ["B"], environ["CARTOPY_DATA_DIR"]) == (
        "x; y",
        "3",
        "/maps",
    )
    assert environ["VIRTUAL_ENV"] == "/v"
    assert environ["PATH"].startswith("/v/bin:")
    assert python(ours) == Path("/v/bin/python")


def test_the_running_environment_is_the_default(machine):
    assert python(machine()) == Path(sys.prefix) / "bin" / "python"


def test_order_and_quoting(machine, tmp_path, site):
    (tmp_path / "machines" / "a b.sh").parent.mkdir(exist_ok=True)
    (tmp_path / "machines" / "a b.sh").write_text(
        'export SEEN="$LOADED" COUNT="$#" A=script; cd /; false; set -- 1 2; true\n'
    )
    ours = machine(
        "environment:\n  modules: [GCC/12.3.0, python/3]\n  source: a b.sh\n  venv: /v\n"
        '  variables: {A: "it\'s & | > * ~", UNICODE: é}\n'
    )
    arguments, environ, folder = shown(ours, tmp_path, *AWKWARD)
    assert arguments == AWKWARD
    assert environ["SEEN"] == " GCC/12.3.0 python/3"
    assert environ["COUNT"] == "0", (
        "a script must not take the command's arguments for its own"
    )
    assert environ["A"] == "it's & | > * ~"
    assert environ["UNICODE"] == "é"
    assert "PYTHONHOME" not in environ
    assert environ["PATH"].startswith("/v/bin:/module/bin:")
    assert folder == str(Path.cwd())
    assert not [name for name in environ if name.startswith("mllam_exps")]


@pytest.mark.parametrize(
    ("setup", "script", "words"),
    [
        ("modules: [GCC/1, missing/2]", "", "stopped at: module load missing/2"),
        ("source: x.sh", "false\n", "stopped at: source"),
        ("source: x.sh", "exit 0\n", "stopped at: source"),
        ("source: x.sh", "if then\n", "stopped at: source"),
        ("source: no.sh", "", "stopped at: source"),
    ],
)
def test_failures_are_failures(machine, tmp_path, site, setup, script, words):
    ours = machine(f"environment: {{{setup}}}\n")
    (tmp_path / "machines/x.sh").write_text(script)
    done = run(wrap(ours, tmp_path, ["echo", "started"]))
    assert (done.returncode, done.stdout) == (FAILED, "")
    assert words in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("mllam-exps: ")


def test_a_host_without_modules(machine, tmp_path, monkeypatch):
    monkeypatch.setenv("MODULESHOME", "/nowhere")
    monkeypatch.setenv("LMOD_PKG", "/nowhere")
    ours = machine("environment: {modules: [GCC]}\n")
    if (
        Path("/etc/profile.d/modules.sh").exists()
        or Path("/etc/profile.d/lmod.sh").exists()
    ):
        pytest.skip("this host has a module system")
    done = run(wrap(ours, tmp_path, ["echo", "started"]))
    assert (done.returncode, done.stdout) == (FAILED, "")
    assert "no command named module" in done.stderr


@pytest.mark.parametrize("to", ["", " >&2"])
def test_a_script_says_itself_what_is_wrong_before_anything_starts(
    machine, tmp_path, to
):
    ours = machine("environment: {source: x.sh}\n")
    (tmp_path / "machines/x.sh").write_text(
        f"echo 'Loading'; echo 'the licence server is down'{to}; return 3\n"
    )
    with pytest.raises(
        MllamError, match=r"stopped at: source .*x\.sh .*the licence server is down"
    ) as caught:
        versions.of_environment(wrap(ours, tmp_path, [sys.executable, "-P"]))
    assert caught.value.exit == Exit.USAGE
    assert "install" not in caught.value.next
    log = tmp_path / "log.txt"
    log.write_text("the licence server is down\nmllam-exps: stopped at: source x.sh\n")
    assert (
        reasons.of_environment(log)
        == "stopped at: source x.sh (it said: the licence server is down)"
    )


@pytest.mark.parametrize("code", [0, 1, 137])
def test_the_commands_exit_code_is_kept(machine, tmp_path, code):
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines/x.sh").write_text("trap 'exit 9' TERM\n")
    for setup in ("{source: x.sh}", "{}"):
        ours = machine(f"environment: {setup}\n")
        assert (
            run(wrap(ours, tmp_path, ["sh", "-c", f"exit {code}"])).returncode == code
        )
        assert run(wrap(ours, tmp_path, ["/nowhere/program"])).returncode == 127


def test_lines_work_in_a_script_under_e_and_u(machine, tmp_path, site):
    ours = machine("environment: {modules: [GCC/1], variables: {A: 1}}\n")
    script = tmp_path / "job.sh"
    script.write_text(
        "\n".join(
            [
                "#!/bin/bash",
                *prologue(ours, tmp_path),
                "trap -p EXIT",
                'echo "$A$LOADED"',
            ]
        )
    )
    assert run(["bash", str(script)]).stdout == "1 GCC/1\n"
    assert run(["bash", "-e", str(script)]).stdout == "1 GCC/1\n"


def test_variables(machine):
    assert variables(machine("environment: {venv: /v}\n")) == {"VIRTUAL_ENV": "/v"}


def test_child_environment():
    environ = {
        "PATH": "/bin", "HOME": "/home/me", "MLFLOW_A": "1", "SLURM_NTASKS": "8", "SLURM_CONF": "/s.conf",
        "SBATCH_QOS": "x", "SRUN_DEBUG": "3", "DVC_ROOT": "/origin", "DVC_EXP_NAME": "x",
        "DVC_SITE_CACHE_DIR": "/site",
    }  # fmt: skip
    kept = {"PATH", "HOME", "SLURM_CONF", "DVC_SITE_CACHE_DIR", "MLFLOW_A"}
    assert set(child_environment(environ)) == kept
    assert "SLURM_NTASKS" in environ
    assert child_environment(os.environ) is not os.environ
