"""A stand-in for Slurm's programs, for what a real cluster can't be made to do on demand.

The programs and a test's orders meet in one folder, a job a file. Words, exit codes and
the order of fields are those of Slurm 22.05. What it does not know is an error: it must
not be content with what Slurm would refuse.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("sbatch", "squeue", "scontrol", "sacct", "scancel", "sinfo", "srun")
LIVING = ("PENDING", "RUNNING", "COMPLETING")
KILL_WAIT = 4
DEPENDENCY = "Dependency"
"""Why a job with a dependency pends here, for good: what Slurm makes of one is for the real one."""
PROGRAM = "#!{} -SE\nimport sys\nsys.path.insert(0, {!r})\nfrom slurm_double import main\nmain({!r})\n"


class Double:
    """The programs, in a folder `bin` that belongs in front of PATH, and what tests order of them."""

    def __init__(self, directory: Path) -> None:
        self.bin, self.folder, self.conf = (
            directory / "bin",
            directory / "state",
            directory / "slurm.conf",
        )
        for folder in (self.bin, self.folder / "jobs", self.folder / "orders"):
            folder.mkdir(parents=True)
        self.conf.touch()
        for path in (
            *(self.bin / name for name in PROGRAMS),
            self.folder / "slurmstepd",
        ):
            path.write_text(
                PROGRAM.format(
                    sys.executable, str(Path(__file__).parent), str(self.folder)
                )
            )
            path.chmod(0o755)
        self.pend("")
        self.has_nodes("idle", "idle")
        self.say("sacct", "Slurm accounting storage is disabled")

    def pend(self, reason: str) -> None:
        """Keep jobs that are submitted from now on pending."""
        put(self.folder / "orders/pend", reason)

    def release(self) -> None:
        """Let the pending jobs start, and those that come."""
        self.pend("")
        for job in jobs(self.folder):
            if job["state"] == "PENDING" and job["reason"] != DEPENDENCY:
                start(self.folder, job["id"])

    def end(
        self,
        job_id: str,
        state: str,
        exit_code: str = "0:0",
        reason: str = "None",
        kill: bool = True,
    ) -> None:
        """End a job; without `kill` it is only said to have ended so: its processes live on, or it ended before."""
        doom(
            self.folder,
            job_id,
            {"state": state, "exit_code": exit_code, "reason": reason},
            kill,
        )
        until = time.monotonic() + 20 * KILL_WAIT
        while self.job(job_id)["state"] in LIVING:
            assert time.monotonic() < until, f"job {job_id} does not end"
            time.sleep(0.02)

    def forget(self, job_id: str) -> None:
        """Purge a job, whatever it was doing: only the accounting remembers it."""
        self.end(job_id, "CANCELLED")
        change(self.folder, job_id, lambda job: job.update(purged=True))

    def lose(self, job_id: str) -> None:
        """Lose a job with the controller's state; slurmdbd (22.05) calls it cancelled, and names nobody who did it."""
        self.forget(job_id)
        change(self.folder, job_id, lambda job: job.update(lost=True))

    def say(self, program: str, stderr: str, code: int = 1) -> None:
        """Have a program answer nothing but this."""
        put(self.folder / f"orders/{program}.say", json.dumps([stderr, code]))

    def hang(self, program: str) -> None:
        """Have a program not answer; it does once it may, if it is still waited for."""
        put(self.folder / f"orders/{program}.say", "null")

    def greet(self, program: str, text: str, code: int | None = None) -> None:
        """Have a site's wrapper print a text on both outputs before a program runs, and end with a code of its own."""
        put(self.folder / f"orders/{program}.greet", json.dumps([text, code]))

    def has_nodes(self, *states: str) -> None:
        """Let the partition `main` have nodes in these states, of 4 CPUs and 2,000 MB."""
        put(self.folder / "orders/nodes", json.dumps(states))

    def refuse(self, *said: str) -> None:
        """Have ``sbatch --test-only`` refuse with these lines, while sbatch takes jobs."""
        put(self.folder / "orders/refuse", "\n".join(said))

    def say_nothing_more(self, *programs: str) -> None:
        """Have programs, or all, answer as they should again; sacct, too, that said that there is no accounting."""
        for program in programs or PROGRAMS:
            (self.folder / f"orders/{program}.say").unlink(missing_ok=True)

    def job(self, job_id: str) -> dict:
        """Return what is known of a job, purged or not."""
        return json.loads((self.folder / f"jobs/{job_id}.json").read_text())

    def down(self) -> None:
        """Kill whatever still runs."""
        for job in jobs(self.folder):
            kill(self.folder, job["id"], signal.SIGKILL)
        self.say_nothing_more()


def put(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def jobs(folder: Path) -> list[dict]:
    return [
        json.loads(path.read_text())
        for path in sorted((folder / "jobs").glob("*.json"))
    ]


def change(folder: Path, job_id: str, how: Callable[[dict], object]) -> None:
    path = folder / f"jobs/{job_id}.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        job = json.loads(path.read_text())
        how(job)
        put(path, json.dumps(job))


def start(folder: Path, job_id: str) -> None:
    # Whoever called sbatch waits until its pipes are closed.
    null = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    subprocess.check_call(
        [folder / "slurmstepd", job_id], start_new_session=True, **null
    )


def doom(folder: Path, job_id: str, end: dict, kill: bool = True) -> None:
    """End a job; where processes have to be killed, its slurmstepd does that, and says the end."""

    def how(job: dict) -> None:
        if job["state"] == "PENDING" or not kill:
            job.update(end, ended=time.time())
        elif job["state"] in LIVING:
            job.update(state="COMPLETING", end=end)
            at_once = end["state"] in ("NODE_FAIL", "OUT_OF_MEMORY")
            os.kill(job["runner"], signal.SIGUSR1 if at_once else signal.SIGTERM)

    change(folder, job_id, how)


def kill(folder: Path, job_id: str, number: int) -> None:
    """Signal all processes of a job, as its cgroup would know them, until a SIGKILL has left none."""
    marks = {f"SLURM_JOB_ID={job_id}".encode(), f"SLURM_CLUSTER_NAME={folder}".encode()}
    left = True
    while left:
        left = False
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if marks <= set(path.read_bytes().split(b"\0")):
                    os.kill(int(path.parts[2]), number)
                    left = number == signal.SIGKILL


def slurmstepd(folder: Path, argv: list[str]) -> None:
    """Run a job to its end, detached from whoever started it. To Slurm 22.05 a signal is a launch failure."""
    if os.fork():
        return
    [job_id], script = argv, []

    def on_signal(number: int, _frame: object) -> None:
        kill(
            folder,
            job_id,
            signal.SIGTERM if number == signal.SIGTERM else signal.SIGKILL,
        )
        signal.alarm(KILL_WAIT)

    def begin(job: dict) -> None:
        if job["state"] != "PENDING":
            sys.exit()
        job.update(
            state="FAILED",
            reason="JobLaunchFailure",
            exit_code="0:53",
            started=time.time(),
            ended=time.time(),
        )
        with (
            contextlib.suppress(OSError),
            Path(job["output"]).open("ab" if job["append"] else "wb") as out,
        ):
            how = {
                "cwd": job["cwd"],
                "env": job["environ"],
                "process_group": 0,
                "stdout": out,
                "stderr": out,
            }
            script.append(
                subprocess.Popen(["bash", folder / f"jobs/{job_id}.sh"], **how)
            )
            job.update(
                state="RUNNING",
                reason="None",
                exit_code="0:0",
                runner=os.getpid(),
                ended=None,
            )

    def finish(job: dict) -> None:
        # A job whose node failed has been called ended while it ran.
        if job["state"] in LIVING:
            kill(folder, job_id, signal.SIGKILL)
            reason = (
                "NonZeroExitCode"
                if code > 0
                else "JobLaunchFailure"
                if code
                else "None"
            )
            job.update(
                state="FAILED" if code else "COMPLETED",
                reason=reason,
                ended=time.time(),
            )
            job.update(
                {"exit_code": f"{code}:0" if code >= 0 else f"0:{-code}"}
                | (job["end"] or {})
            )

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
        signal.signal(number, on_signal)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a submitter may hold signals back
    change(folder, job_id, begin)
    if script:
        code = script[0].wait()
        change(folder, job_id, finish)


def fail(text: str, code: int = 1) -> None:
    print(text, file=sys.stderr)
    sys.exit(code)


def parse(
    program: str, argv: list[str], known: str
) -> tuple[dict[str, str], list[str]]:
    found: dict[str, str] = {}
    while argv and argv[0].startswith("--"):
        name, _, value = argv.pop(0)[2:].partition("=")
        if name not in known.split():
            fail(f"{program}: unrecognized option '--{name}'")
        found[name] = value
    return found, argv


def sbatch(folder: Path, argv: list[str]) -> None:
    given, files = parse("sbatch", argv, "parsable test-only")
    lines = (Path(files[0]).read_text() if files else sys.stdin.read()).split("\n")
    assert lines[0].startswith("#!"), "This does not look like a batch script."
    head = [
        line[8:] for line in lines[: lines.index("")] if line.startswith("#SBATCH ")
    ]
    known = "job-name output open-mode no-requeue export nodes ntasks-per-node cpus-per-task mem time partition hold"
    known += " dependency kill-on-invalid-dep signal"
    asked, _ = parse(
        "sbatch",
        [word for line in head for word in shlex.split(line, comments=True)],
        known,
    )
    partition = os.environ.get("SBATCH_PARTITION", asked.get("partition", "main"))
    if partition not in ("main", "short", "hidden"):
        what = (
            "allocation failure"
            if "test-only" in given
            else "sbatch: error: Batch job submission failed"
        )
        fail(
            f"sbatch: error: invalid partition specified: {partition}\n{what}: Invalid partition name specified"
        )
    name, nodes = asked.get("job-name", "sbatch"), int(asked.get("nodes", 1))
    held = "JobHeldUser" if "hold" in asked else (folder / "orders/pend").read_text()
    if "dependency" in asked:
        held = DEPENDENCY
    if "test-only" in given and (refused := folder / "orders/refuse").exists():
        fail(refused.read_text())
    if "test-only" in given:
        fail(
            "sbatch: Job 1 to start at 2026-01-01T00:00:00 using 1 processors on nodes n1",
            0,
        )
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        job_id = str(1 + len(jobs(folder)))
        # A backslash in it takes the meaning of all %.
        way = r"\\(.)" if "\\" in asked["output"] else "%(.)"
        output = re.sub(
            way, lambda found: {"j": job_id}.get(found[1], found[1]), asked["output"]
        )
        ours = {
            "JOB_ID": job_id,
            "JOB_NAME": name,
            "NNODES": str(nodes),
            "CLUSTER_NAME": str(folder),
        }
        job: dict = {
            "id": job_id,
            "name": name,
            "partition": partition,
            "state": "PENDING",
            "exit_code": "0:0",
        }
        job |= {
            "reason": held or "None",
            "nodes": "n1" if nodes == 1 else f"n[1-{nodes}]",
            "cwd": str(Path.cwd()),
            "command": str(Path(files[0]).absolute()) if files else "(null)",
        }
        job |= dict.fromkeys(("runner", "started", "ended", "end", "purged")) | {
            "output": output
        }
        job["append"] = asked.get("open-mode") == "append"
        job["environ"] = os.environ | {
            f"SLURM_{key}": value for key, value in ours.items()
        }
        put(folder / f"jobs/{job_id}.sh", "\n".join(lines))
        put(folder / f"jobs/{job_id}.json", json.dumps(job))
    if not held:
        start(folder, job_id)
    print(job_id)


def squeue(folder: Path, argv: list[str]) -> None:
    asked, _ = parse("squeue", argv, "user noheader states format all")
    if "noheader" not in asked:
        titles = {
            "A": "JOBID",
            "i": "JOBID",
            "T": "STATE",
            "r": "REASON",
            "j": "NAME",
            "M": "TIME",
            "N": "NODELIST",
            "o": "COMMAND",
        }
        print(re.sub("%(.)", lambda found: titles[found[1]], asked["format"]))
    mine = asked["user"] in (str(os.getuid()), pwd.getpwuid(os.getuid()).pw_name)
    for job in jobs(folder):
        hidden = job["partition"] == "hidden" and "all" not in asked
        hidden |= job["partition"] != os.environ.get(
            "SQUEUE_PARTITION", job["partition"]
        )
        if (
            mine
            and not hidden
            and not job["purged"]
            and (asked.get("states") == "all" or job["state"] in LIVING)
        ):
            fields = {
                "i": job["id"],
                "T": job["state"],
                "r": job["reason"],
                "j": job["name"],
                "M": "0:00",
            }
            fields |= {"A": job["id"]}
            fields["N"] = job["nodes"] if job["started"] else ""
            fields["o"] = job["command"]
            print(
                re.sub(
                    "%(.)",
                    lambda found, fields=fields: fields[found[1]],
                    asked["format"],
                )
            )


def scontrol(folder: Path, argv: list[str]) -> None:
    if argv == ["ping"]:
        print("Slurmctld(primary) at host is UP")
        return
    assert argv[:3] == ["--oneliner", "show", "job"], argv
    found = [job for job in jobs(folder) if job["id"] == argv[3] and not job["purged"]]
    for job in found:
        print(
            f"JobId={job['id']} JobName={job['name']} UserId=a(1) QOS=(null) JobState={job['state']}"
            f" Reason={job['reason'].replace(' ', '_')} ExitCode={job['exit_code']} ReqNodeList=(null)"
            f" NodeList={job['nodes'] if job['started'] else ''} WorkDir={job['cwd']} StdOut={job['output']} Power= "
        )
    if not found:
        fail("slurm_load_jobs error: Invalid job id specified")


def sinfo(folder: Path, argv: list[str]) -> None:
    asked, _ = parse("sinfo", argv, "all Node noheader format partition")
    assert asked["format"] == "mllam|%P|%c|%m|%T"
    if {"all", "partition"} <= asked.keys():
        fail(
            "sinfo: error: Conflicting options, -a and -p, specified. Please choose one or the other."
        )
    for state in json.loads((folder / "orders/nodes").read_text()):
        print(f"mllam|main*|4|2000|{state}")


def sacct(folder: Path, argv: list[str]) -> None:
    if "ConsumedEnergyRaw" in argv[-1]:
        for job in jobs(folder):
            if job["id"] in argv[1].split(","):
                print(f"{job['id']}|0|{job['name']}\n{job['id']}.batch|0|batch")
        return
    assert [argv[0], *argv[2:]] == [
        "-j",
        "-X",
        "-n",
        "-P",
        "-D",
        "-o",
        "State,ExitCode,NodeList,JobName",
    ], argv
    for job in jobs(folder):
        if job["id"] == argv[1]:
            by = (
                f" by {os.getuid()}"
                if job["state"] == "CANCELLED" and not job.get("lost")
                else ""
            )
            nodes = job["nodes"] if job["started"] else "None assigned"
            print(f"{job['state']}{by}|{job['exit_code']}|{nodes}|{job['name']}")


def scancel(folder: Path, argv: list[str]) -> None:
    for job in jobs(folder):
        if job["id"] == argv[0]:
            # A pending job keeps its reason, one that runs its exit code.
            doom(
                folder,
                job["id"],
                {"state": "CANCELLED"} | ({"reason": "None"} if job["started"] else {}),
            )


def srun(_folder: Path, argv: list[str]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    asked, command = parse(
        "srun",
        argv,
        "unbuffered label kill-on-bad-exit nodes ntasks-per-node cpus-per-task",
    )
    each = int(asked.get("ntasks-per-node", 1))
    count = each * int(asked.get("nodes", 1))

    def run(rank: int) -> int:
        ours = {
            "PROCID": rank,
            "NTASKS": count,
            "NODEID": rank // each,
            "LOCALID": rank % each,
        }
        environ = os.environ | {
            f"SLURM_{key}": str(value) for key, value in ours.items()
        }
        task = subprocess.Popen(
            command,
            env=environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for line in task.stdout or ():
            sys.stdout.write(f"{rank}: {line}" if "label" in asked else line)
            sys.stdout.flush()
        if code := task.wait():
            how = (
                f"Exited with exit code {code}" if code > 0 else signal.strsignal(-code)
            )
            print(
                f"srun: error: n{rank // each + 1}: task {rank}: {how}", file=sys.stderr
            )
        return code if code >= 0 else 128 - code

    signal.signal(
        signal.SIGTERM, lambda *_: None
    )  # whoever sends it means the tasks, too
    with ThreadPoolExecutor(count) as pool:
        sys.exit(max(pool.map(run, range(count))))


def main(folder: str) -> None:
    """Be the program by whose name this was called."""
    name = Path(sys.argv[0]).name
    said = Path(folder, f"orders/{name}.say")
    while said.exists():
        if answer := json.loads(said.read_text()):
            fail(*answer)
        time.sleep(0.05)
    code = None
    if (greeting := Path(folder, f"orders/{name}.greet")).exists():
        text, code = json.loads(greeting.read_text())
        print(text, file=sys.stderr)
        print(text, flush=True)
    globals()[name](Path(folder), sys.argv[1:])
    sys.exit(code)
