"""What people do: edit, run, commit, submit; at random, in a repository of which the truth is known."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.oracle import digest, pipelines, truth
from support.oracle.pipelines import FILES, SOURCES, Stage

ROOT = Path(__file__).parents[3]
NEEDED = [
    "params.yaml",
    *(
        f"data/{n}.yaml"
        for n in ("config", "datastore", "training_params", "evaluate_params")
    ),
]
SETTABLE = ["5", "5.0", "true", "null", "text", "1e-3", "[1,2]", "{a:1}"]


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
    """

    root: Path
    rng: random.Random
    dvc: Callable[..., tuple[int, str, str]]
    ours: Callable[..., tuple[int, str, str]]
    work: Callable[[Path], None]
    pipeline: list[Stage] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    submitted: list[tuple[Path, str, str]] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    refused: int = 0
    count: int = 0

    def begin(self) -> None:
        """Make the repository."""
        self.first = self.root
        self.pipeline = pipelines.stages(self.rng)
        for file in NEEDED:
            (self.root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, self.root / file)
        shutil.copy(digest.__file__, self.root / "digest.py")
        pipelines.write(self.root, self.rng, self.pipeline)
        self.git("init", "-q", "-b", "main")
        with self.inside():
            code, *said = self.dvc("init", "-q")
            assert code == 0, said
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

    def lose(self) -> None:
        """Remove an object of DVC's cache."""
        share = (
            self.rng.random()
        )  # drawn in any case: what is drawn must not hang on what lies there
        if objects := sorted((self.root / ".dvc/cache/files/md5").glob("*/*")):
            lost = objects[int(share * len(objects))]
            lost.unlink()
            self.lost.add(lost.parent.name + lost.name)
            self.done.append(f"rm {lost.relative_to(self.root)}")

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
        here = [name for root, name, _ in self.submitted if root == self.root]
        if here:
            self.run_dvc("exp", "apply", self.rng.choice(here))

    def submit(self) -> None:
        """Submit the workspace, as one experiment or as a sweep, and let it come to its end."""
        self.count += 1
        name, words = f"e{self.count}", self.settings()
        if words and self.rng.random() < 0.4:
            words[1] = words[1].partition("=")[0] + "=1,2,1.0"
        words += ["--force"] if self.rng.random() < 0.1 else []
        target = self.rng.choice(self.pipeline).name if self.rng.random() < 0.1 else ""
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
        self.work(self.root)
        refs = self.git("for-each-ref", "--format=%(refname)", "refs/exps").split()
        for one in (submitted["name"] for submitted in json.loads(said)):
            if not any(ref.endswith(f"/{one}") for ref in refs):
                with self.inside():
                    raise AssertionError(
                        f"{one} is stuck:\n{self.told}\n{said}\n{self.ours('status')[1]}"
                    )
            self.submitted.append((self.root, one, target))

    def move(self) -> None:
        """Go on in another clone, with the same cache, and so the same run store."""
        self.commit()
        other = self.root.with_name(f"clone{self.count}-{len(self.done)}")
        self.git("clone", "-q", str(self.root), str(other))
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
            + [self.edit_pipeline, self.lose, self.apply]
            + [self.commit] * 2
        )
        acts += [self.reproduce] * 4 + [self.move] + [self.elsewhere] * slow
        self.rng.choice(acts)()

    def falsehoods(self, scratch: Path) -> list[str]:
        """Return what is not true of the experiments that were saved."""
        found = []
        for number, (root, name, target) in enumerate(self.submitted):
            refs = subprocess.run(
                ["git", "for-each-ref", "--format=%(refname)", "refs/exps"],
                cwd=root,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()
            ref = next(ref for ref in refs if ref.endswith(f"/{name}"))
            cache = self.first / ".dvc/cache"
            for what in truth.falsehoods(
                root, ref, target, cache, scratch / str(number), self.lost
            ):
                found.append(f"{name}: {what}")
        return found
