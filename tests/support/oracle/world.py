"""What people do: edit, run, commit, submit; at random, in a repository of which the truth is known."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from support.oracle import digest, pipelines, truth
from support.oracle.digest import IGNORED, LEAVES
from support.oracle.pipelines import FILES, SOURCES, Stage

ROOT = Path(__file__).parents[3]
NEEDED = [
    "params.yaml",
    *(
        f"data/{n}.yaml"
        for n in ("config", "datastore", "training_params", "evaluate_params")
    ),
]
SPOILT, MOST_SPOILT = 0.05, 2
"""How often a result is damaged between two jobs, and how many in a world: each has to be tried again."""
SETTABLE = ["5", "5.0", "true", "null", "text", "1e-3", "[1,2]", "{a:1}"]


@dataclass
class Submitted:
    """An experiment that was submitted.

    Parameters
    ----------
    meanwhile : bool
        Whether anything was done while it was at work that may have made it fail.
    lost : set of str
        Objects that were taken from DVC's cache, or damaged there, since.
    """

    root: Path
    name: str
    target: str
    meanwhile: bool = False
    lost: set[str] = field(default_factory=set)


@dataclass
class World:
    """One repository, and what was done in it.

    Parameters
    ----------
    root : Path
        Of the repository.
    rng : random.Random
        What is done hangs on it alone.
    dvc, ours : callable
        Run a command of DVC's, or ours, in the current directory; return its exit code
        and what it printed.
    work : callable
        Lets submitted experiments come to their end.

    Attributes
    ----------
    strict : bool
        Whether DVC runs nothing here: see `pipelines`.
    below : str
        Where DVC's repository lies in git's.
    has_lost : bool
        Whether anything was taken from DVC's cache, or damaged there.
    waiting : list of Submitted
        Those that may still be at work.
    """

    root: Path
    rng: random.Random
    dvc: Callable[..., tuple[int, str, str]]
    ours: Callable[..., tuple[int, str, str]]
    work: Callable[[Path], None]
    pipeline: list[Stage] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    submitted: list[Submitted] = field(default_factory=list)
    has_lost: bool = False
    waiting: list[Submitted] = field(default_factory=list)
    strict: bool = False
    below: str = "."
    refused: int = 0
    failed: int = 0
    retried: int = 0
    spoilt: int = 0
    count: int = 0

    def begin(self) -> None:
        """Make the repository."""
        self.strict = self.rng.random() < 0.45
        self.below = self.rng.choice([".", ".", ".", "in git's/exp"])
        top, self.root = self.root, self.root / self.below
        self.root.mkdir(parents=True, exist_ok=True)
        self.first = self.root
        self.pipeline = pipelines.stages(self.rng, strict=self.strict)
        for file in NEEDED:
            (self.root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, self.root / file)
        shutil.copy(digest.__file__, self.root / "digest.py")
        pipelines.write(self.root, self.rng, self.pipeline)
        (self.root / ".gitignore").write_text("*.log\n")
        (top / "a.txt").touch()
        self.done.append(f"strict: {self.strict}; the repository lies in {self.below}")
        self.done += [json.dumps(stage.to_yaml()) for stage in self.pipeline]
        self.git("-C", str(top), "init", "-q", "-b", "main")
        with self.inside():
            words = ["--subdir"] * (self.below != ".")
            code, *said = self.dvc("init", "-q", *words)
            assert code == 0, said
        (self.root / ".dvcignore").write_text(IGNORED)
        self.commit()

    def git(self, *words: str) -> str:
        """Run git here."""
        done = subprocess.run(
            ["git", *words], cwd=self.root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (
            f"git {' '.join(words)}: {done.stderr}\n{self.told}"
        )
        return done.stdout

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Be in the repository."""
        before = Path.cwd()
        os.chdir(self.root)
        try:
            yield
        finally:
            os.chdir(before)

    @property
    def told(self) -> str:
        """What was done, for whoever has to find out why it went wrong."""
        return "\n".join(self.done)

    def run_dvc(self, *words: str) -> None:
        """Run a command of DVC's; it may refuse."""
        with self.inside():
            code, *_ = self.dvc(*words)
        self.done.append(f"dvc {' '.join(words)}  # exit code {code}")

    def commit(self) -> None:
        """Commit all."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "Changed")
        self.done.append("git add -A; git commit")

    def edit(self) -> None:
        """Change a source, or swap two, or add or remove a file of a folder."""
        how = self.rng.choice(["write", "write", "swap", "add", "remove"])
        path = self.root / self.rng.choice(SOURCES)
        if how == "swap":
            other = self.root / self.rng.choice(SOURCES)
            one, two = path.read_text(), other.read_text()
            path.write_text(two)
            other.write_text(one)
        elif how == "add":
            path = self.root / "folder" / f"new{self.rng.randint(0, 3)}.txt"
            path.write_text(pipelines.text(self.rng))
            self.git("add", "-A")
        elif how == "remove" and (new := sorted((self.root / "folder").glob("new*"))):
            path = self.rng.choice(new)
            path.unlink()
        else:
            path.write_text(pipelines.text(self.rng))
        self.done.append(f"{how} {path.name}")

    def stray(self) -> None:
        """Leave a file in an input that git does not know: it is ignored, or nobody has added it."""
        names = ["x.log", "stray.txt"]
        # What .dvcignore names is no input, for DVC neither: once git keeps it, a program
        # that reads it all the same is not run again.
        if not any({"ls", "all"} & {*stage.read} for stage in self.pipeline):
            names.append("y.tmp")
        path = self.root / "folder" / self.rng.choice(names)
        path.write_text(pipelines.text(self.rng))
        self.done.append(f"write {path.name}")

    def edit_parameters(self) -> None:
        """Write a parameter file anew."""
        file = self.rng.choice(FILES)
        (self.root / file).write_text(
            pipelines.parameter_file(self.rng, file), encoding="utf-8"
        )
        self.done.append(f"write {file}")

    def edit_pipeline(self) -> None:
        """Let a stage read something else."""
        stage = self.rng.choice(self.pipeline)
        stage.params = [f"{self.rng.choice(FILES)}:{self.rng.choice(pipelines.KEYS)}"]
        pipelines.write_pipeline(self.root, self.pipeline)
        self.done.append(f"let {stage.name} read {stage.params}")

    def freeze(self) -> None:
        """Freeze a stage, or unfreeze it."""
        stage = self.rng.choice(self.pipeline)
        if "frozen" in stage.flags:
            stage.flags.remove("frozen")
        else:
            stage.flags.append("frozen")
        pipelines.write_pipeline(self.root, self.pipeline)
        self.done.append(f"{stage.name} is {' '.join(stage.flags) or 'as any other'}")

    def lose(self) -> None:
        """Remove an object of DVC's cache, or damage it."""
        # Drawn in any case: what is drawn must not hang on what lies there.
        share, damage = self.rng.random(), self.rng.random() < 0.5
        if objects := sorted((self.first / ".dvc/cache/files/md5").glob("*/*")):
            lost = objects[int(share * len(objects))]
            if damage:
                lost.chmod(0o644)
                with lost.open("a") as file:
                    file.write("more")
            else:
                lost.unlink()
            self.has_lost = True
            for one in self.submitted:
                one.lost.add(lost.parent.name + lost.name)
            what = "damage" if damage else "rm"
            self.done.append(f"{what} {lost.relative_to(self.first)}")
            self.meanwhile()

    def between(self) -> None:
        """Damage a result while jobs are at work, now and then, or edit what they were to read."""
        # What is made again must not become another: that has a table of reasons.
        if any(stage.nonce for stage in self.pipeline) or self.rng.random() > SPOILT:
            return
        share = self.rng.random()
        store = self.first / ".dvc/cache/mllam-exps/runs"
        made = [
            path
            for path in sorted(store.glob("*/attempts/*/outputs/**/*"))
            if path.is_file() and not path.is_symlink()
        ]
        if made and self.spoilt < MOST_SPOILT:
            self.spoilt += 1
            spoilt = made[int(share * len(made))]
            mode = spoilt.stat().st_mode
            spoilt.chmod(0o644)
            with spoilt.open("a") as file:
                file.write("more")
            spoilt.chmod(mode)
            self._excuse(spoilt)
            self.done.append(
                f"damage {spoilt.relative_to(self.first)}, while jobs are at work"
            )
            if self.rng.random() < 0.5:
                self.edit()
            self.meanwhile()

    def _excuse(self, spoilt: Path) -> None:
        """Take what was damaged for lost, where DVC's cache has the same file: of those that were saved before."""
        for held in (self.first / ".dvc/cache/files/md5").glob("*/*"):
            if held.samefile(spoilt):
                self.has_lost = True
                for one in self.submitted:
                    if one not in self.waiting or self._is_saved(one):
                        one.lost.add(held.parent.name + held.name)

    def meanwhile(self) -> None:
        """Note that something was done that what is at work may fail by."""
        for one in self.waiting:
            one.meanwhile = True

    def settings(self) -> list[str]:
        """Return options that set parameters."""
        found = []
        for _ in range(self.rng.choice([0, 1, 1, 2])):
            key = self.rng.choice(
                [k for k in pipelines.KEYS if k not in {"null", "größe"}]
            )
            found += [
                "-S",
                f"{self.rng.choice(FILES[:3])}:{key}={self.rng.choice(SETTABLE)}",
            ]
        return found

    def reproduce(self) -> None:
        """Run some of it with DVC, in the workspace or elsewhere."""
        stage = self.rng.choice(self.pipeline).name
        how = self.rng.choice(
            [
                ["repro"],
                ["repro", stage],
                ["repro", "-s", stage],
                ["exp", "run"],
                ["exp", "run", stage],
            ]
        )
        self.run_dvc(*how, *(self.settings() if how[0] == "exp" else []))
        self.meanwhile()

    def elsewhere(self) -> None:
        """Run some of it with DVC, in a temporary workspace."""
        words = [
            "exp",
            "run",
            "--temp",
            *self.rng.choice([[], [self.rng.choice(self.pipeline).name]]),
            *self.settings(),
        ]
        if self.rng.random() < 0.5:
            self.run_dvc(*words)
        else:
            self.run_dvc("exp", "run", "--queue", *self.settings())
            self.run_dvc("exp", "run", "--run-all")

    def apply(self) -> None:
        """Bring a saved experiment into the workspace."""
        here = [one for one in self.submitted if one.root == self.root]
        if here and (one := self.rng.choice(here)) not in self.waiting:
            self.run_dvc("exp", "apply", one.name)
            if not self.strict and self.rng.random() < 0.5:
                self.reproduce()

    def overtake(self) -> None:
        """Submit what DVC has run on what we have made, and make that again before it is saved."""
        self._submit([], "")
        self.settle()
        if self.submitted and self.submitted[-1].root == self.root:
            self.run_dvc("exp", "apply", self.submitted[-1].name)
        self.edit_pipeline()
        self.run_dvc("repro", "-s", self.pipeline[-1].name)
        self.lose()
        self._submit([], "")
        self._submit(["--force"], "")
        self.settle()

    def submit(self) -> None:
        """Submit the workspace, as one experiment or as a sweep, and let it come to its end."""
        words = self.settings()
        if words and self.rng.random() < 0.4:
            words[1] = words[1].partition("=")[0] + "=1,2,1.0"
        if self.rng.random() < 0.15:
            words += self._other_command()
        # While the same is at work, or has just been done, it becomes another by this.
        often = 0.4 if self.waiting else 0.1
        words += ["--force"] if self.rng.random() < often else []
        target = self.rng.choice(self.pipeline).name if self.rng.random() < 0.1 else ""
        self._submit(words, target)
        if self.rng.random() < 0.65:
            self.settle()
        elif self.rng.random() < 0.5:
            self.submit()

    def _other_command(self) -> list[str]:
        """Return an option that gives a stage another command, as it would set a parameter."""
        stages = yaml.safe_load((self.root / "dvc.yaml").read_text())["stages"]
        plain = {}
        for name, stage in stages.items():
            command = stage.get("cmd")
            if isinstance(command, str) and not re.search(r"""['"\\$\n]""", command):
                plain[name] = command
        names = [name for name in plain if name.isalnum()]
        if not names:
            return []
        name, salt = self.rng.choice(names), self.rng.randrange(9)
        return ["-S", f"dvc.yaml:stages.{name}.cmd='{plain[name]} --salt={salt}'"]

    def _submit(self, words: list[str], target: str) -> None:
        self.count += 1
        name = f"e{self.count}"
        before = self.git("for-each-ref", "--format=%(refname)", "refs/exps")
        with self.inside():
            code, said, error = self.ours(
                "submit", "--json", *filter(None, [target]), "-n", name, *words
            )
        self.done.append(
            f"mllam-exps submit {target} -n {name} {' '.join(words)}  # exit code {code}"
        )
        if code:
            assert code == 2 and "→" in said + error, f"{self.told}\n{said}\n{error}"
            assert before == self.git(
                "for-each-ref", "--format=%(refname)", "refs/exps"
            ), self.told
            self.refused += 1
            self.done.append(f"# {(said + error).strip()}")
            return
        if "--force" in words:
            self.meanwhile()
        for one in json.loads(said):
            self.waiting.append(Submitted(self.root, one["name"], target))
        self.submitted += self.waiting[-len(json.loads(said)) :]

    def settle(self) -> None:
        """Let what was submitted come to its end, and see that it was saved."""
        for _ in range(3):
            if self.waiting:
                self.work(self.root)
            self.waiting = [one for one in self.waiting if not self._is_saved(one)]
            for one in self.waiting:
                if self._has_reason_to_fail(one):
                    self.submitted.remove(one)
                    self.failed += 1
            self.waiting = [one for one in self.waiting if one in self.submitted]
            for one in self.waiting:
                with self.inside():
                    said = self.ours("status")[1]
                    assert one.meanwhile, f"{one.name} is stuck:\n{self.told}\n{said}"
                    self.done.append(f"mllam-exps retry {one.name}")
                    said = "".join(map(str, self.ours("retry", one.name)[1:]))
                    self.done.append("# " + said.strip().replace("\n", "\n# "))
                    self.retried += 1
        if self.waiting:
            with self.inside():
                shown = [self.ours("show", one.name)[1] for one in self.waiting]
            raise AssertionError("\n".join(["stuck:", self.told, *shown]))
        self.done.append("# all is done")

    def _is_saved(self, one: Submitted) -> bool:
        return bool(self._ref(one))

    def _ref(self, one: Submitted) -> str:
        refs = self.git(
            "-C", str(one.root), "for-each-ref", "--format=%(refname)", "refs/exps"
        ).split()
        return next((ref for ref in refs if ref.endswith(f"/{one.name}")), "")

    def _has_reason_to_fail(self, one: Submitted) -> bool:
        """Tell whether it says why it cannot be, and is right.

        A program that would have read what DVC does not keep is not run; what DVC had
        when it was submitted may be gone by now.
        """
        with self.inside():
            said = " ".join(self.ours("show", one.name)[1].split())
        leaves = any(what in LEAVES for stage in self.pipeline for what in stage.make)
        if leaves and "DVC does not keep it" in said:
            return True
        gone = "had when it was submitted, is gone" in said
        another = "than there is now" in said and "made again since" in said
        # DVC had another result than the run has now: to submit it anew helps.
        known = "was made again by" in said and "mllam-exps submit, as before" in said
        # What was lost before is made again, and may become another: to submit it anew
        # helps.
        nonce = any(stage.nonce for stage in self.pipeline)
        if another and self.has_lost and nonce:
            return True
        return one.meanwhile and (gone or another or known)

    def move(self) -> None:
        """Go on in another clone, with the same cache, and so the same run store."""
        self.commit()
        self.settle()
        top = Path(self.git("rev-parse", "--show-toplevel").strip())
        clone = top.with_name(f"clone{self.count}-{len(self.done)}")
        self.git("clone", "-q", str(top), str(clone))
        other = clone / self.below
        (other / ".dvc/config.local").write_text(
            f"[cache]\n    dir = {self.root / '.dvc/cache'}\n"
        )
        if (local := self.root / ".dvc/config.local").exists():
            shutil.copy(local, other / ".dvc/config.local")
        self.root = other
        self.done.append("git clone; cd there")

    def act(self, *, slow: bool) -> None:
        """Do something."""
        acts = (
            [self.edit] * 6
            + [self.edit_parameters] * 4
            + [self.edit_pipeline, self.lose, self.lose, self.stray, self.move]
            + [self.commit] * 2
        )
        if self.strict:
            acts += [self.apply]
        else:
            acts += [self.reproduce] * 4 + [self.elsewhere] * slow
            acts += [self.apply, self.freeze]
            acts += [self.overtake] * any(stage.nonce for stage in self.pipeline)
        self.rng.choice(acts)()

    def falsehoods(self, scratch: Path) -> list[str]:
        """Return what is not true of the experiments that were saved."""
        found = []
        self.settle()
        for number, one in enumerate(self.submitted):
            for what in truth.falsehoods(
                one.root,
                self._ref(one),
                one.target,
                self.first / ".dvc/cache",
                scratch / str(number),
                one.lost,
            ):
                found.append(f"{one.name}: {what}")
        return found
