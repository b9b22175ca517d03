"""A share in which five real users do random things at once, one is killed again and again, and one attacks."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from support.team import STAGES, User, make_users

SECONDS = float(os.environ.get("TEAM_SECONDS", "60"))
SEED = os.environ.get("TEAM_SEED", "")
"""Whose random choices to make again; what happens at once differs all the same."""

GROUP = 40520
FOUNDER, KILLED, HOSTILE = 40021, 40024, 40025
MEMBERS = [FOUNDER, 40022, 40023, KILLED, HOSTILE]
UMASKS = ("022", "077", "002", "027", "007")
STRANGER = 40026

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others"),
]


@dataclass
class Member:
    """Somebody at work: what they have named, and what was said to them."""

    user: User
    share: Path
    rng: random.Random
    names: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def types(self, command: str) -> str:
        """Type a command, which may fail; who is to be killed is, at a random moment."""
        process = self.user.start(command)
        if self.user.number == KILLED:
            threading.Timer(self.rng.uniform(0.2, 6), _kill, [process.pid]).start()
        said, _ = process.communicate(timeout=240)
        self.told.append(
            f"{self.user.number}$ {command}  # {process.returncode}\n{said}"
        )
        return str(said)

    def submit(self) -> None:
        """Submit an experiment, whose run another may be making."""
        name = f"e{self.user.number % 10}-{len(self.names)}"
        self.names.append(name)
        self.types(f"mllam-exps submit -n {name} -S x={self.rng.randint(1, 6)}")
        self.types(
            f"mllam-exps cancel {name}"
            if self.rng.random() < 0.25
            else "timeout 30 mllam-exps status --watch"
        )

    def push(self) -> None:
        """Push one of one's own, which may not be saved."""
        if self.names:
            self.types(f"mllam-exps push {self.rng.choice(self.names)}")

    def pull(self) -> None:
        """Pull one of anybody's."""
        if found := self.sent():
            self.types(f"mllam-exps pull {self.rng.choice(found)}")

    def sent(self) -> list[str]:
        """Return what is in the share."""
        said = self.types("git ls-remote share 'refs/exps/*'")
        refs = [line.split()[1] for line in said.splitlines() if "refs/exps/" in line]
        return [ref.rpartition("/")[2] for ref in refs if "/exec/" not in ref]

    def collect(self) -> None:
        """Take away what nobody needs."""
        self.types("mllam-exps share gc --yes --older-than 0m")

    def remove(self) -> None:
        """Remove one of one's own, which others may have pulled."""
        if self.names:
            self.types(f"dvc exp remove {self.rng.choice(self.names)}")

    def attack(self) -> None:
        """Do what a member can to what is another's, but for removing objects: that nobody can forbid."""
        store, objects = self.share / "cache/mllam-exps", self.share / "cache/files/md5"
        self.types(
            self.rng.choice(
                [
                    f"for f in {objects}/??/*; do echo x >> $f; chmod u+w $f; done",
                    f"for d in {store}/runs/*; do mv $d $d.away; rm -rf $d; done",
                    f"for f in {store}/runs/*/run.json; do echo '{{}}' > $f; rm -f $f; done",
                    f"for f in {store}/runs/*/attempts/*; do rm -rf $f; ln -sfn /etc $f; done",
                    f"mv {store}/experiments {store}/away; rm -rf {store}/experiments/*",
                    f"echo x > {self.share}/hooks/update; echo x >> {self.share}/config",
                    f"for f in {self.share}/clones/*; do echo '{{}}' > $f; rm -f $f; done",
                    f"chmod -R o+rwx {self.share}; chmod -R a+w {self.share}",
                ]
            )
        )

    def work(self, until: float) -> None:
        """Do random things for a while."""
        doings: list[Callable[[], None]] = [
            self.submit,
            self.submit,
            self.push,
            self.push,
            self.pull,
            self.collect,
            self.remove,
        ]
        if self.user.number == HOSTILE:
            doings += [self.attack] * 7
        while time.monotonic() < until:
            self.rng.choice(doings)()


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_nothing_is_lost_and_nobody_locked_out(tmp_path: Path):
    seed = int(SEED or random.SystemRandom().randrange(10**6))
    print(f"TEAM_SEED={seed}")
    groups = {number: [GROUP] for number in MEMBERS} | {STRANGER: []}
    *users, stranger = make_users(tmp_path, groups, UMASKS)
    share = set_up(tmp_path, users)
    # Whose home cannot be written to any more: a full quota, say.
    users[2].home.chmod(0o555)
    members = [Member(user, share, random.Random(seed + user.number)) for user in users]
    until = time.monotonic() + SECONDS
    threads = [threading.Thread(target=one.work, args=[until]) for one in members]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert stranger.types(f"ls {share}/cache; echo x > {share}/x", ".").returncode
        time.sleep(1)
    story = "\n".join(said for one in members for said in one.told)
    (tmp_path / "story.txt").write_text(story)
    print(f"{len(story.splitlines())} lines in {tmp_path / 'story.txt'}")
    assert "Traceback" not in story
    look_at_what_is_left(users, members, share)


def set_up(tmp_path: Path, users: list[User]) -> Path:
    """Have one found a share, and the others join it."""
    founder, *others = users
    teams = tmp_path / "teams"
    teams.mkdir(mode=0o755)
    os.chown(teams, FOUNDER, FOUNDER)
    share = teams / "atlantic"
    founder.ok("mkdir work && cd work && git init -q -b main && dvc init -q")
    work = founder.home / "work"
    stages = yaml.safe_dump({"stages": STAGES})
    files = {"dvc.yaml": stages, "params.yaml": "x: 0\n", "base.txt": "base\n"}
    for name, text in files.items():
        (work / name).write_text(text)
        os.chown(work / name, FOUNDER, FOUNDER)
    founder.ok("git add -A && git commit -qm A")
    founder.ok("dvc repro -q && git add -A && git commit -qm B")
    founder.ok(f"mllam-exps share init {share} --group {GROUP}")
    founder.ok("git push -q share main")
    for user in others:
        user.ok(
            f"git config --global --add safe.directory {share} && git clone -q {share} work"
        )
        user.ok(f"mllam-exps share join {share}")
    return share


def look_at_what_is_left(users: list[User], members: list[Member], share: Path) -> None:
    """Hold what is left against what each experiment's own files give."""
    users[2].home.chmod(0o755)
    founder = users[0]
    # What is the attacker's own, the attacker may open to everybody; and who was killed
    # may have left a folder half made.
    checked = founder.types("mllam-exps share check --json")
    if checked.returncode:
        told, _ = json.JSONDecoder().raw_decode(checked.stdout)
        owners = {int(one["owner"]) for one in told["left"]}
        assert owners <= {HOSTILE, KILLED}, checked.stdout
    for user in users:
        user.types("mllam-exps share check --fix")
    founder.ok("mllam-exps share check")
    # What one comes to need is brought back.
    for user in users:
        user.types("mllam-exps share gc --yes --older-than 30d")
    sent = members[1].sent()
    reader = users[1]
    reader.ok(f"git clone -q {share} fresh", ".")
    reader.ok(f"mllam-exps share join {share}", "fresh")
    for name in sent:
        reader.ok(f"mllam-exps pull {name}", "fresh")
        reader.ok(f"git checkout -q . && dvc exp apply {name}", "fresh")
        assert "Running stage" not in reader.ok("dvc repro", "fresh"), name
        place = reader.home / "fresh"
        params = (place / "params.yaml").read_text()
        assert (place / "grown.txt").read_text() == f"base\n{params}", name
    kept = 0
    for user in users:
        for name in saved_by(user):
            user.ok(f"git checkout -q . && dvc exp apply {name}")
            place = user.home / "work"
            params = (place / "params.yaml").read_text()
            assert (place / "grown.txt").read_text() == f"base\n{params}", name
            kept += 1
    print(f"{len(sent)} experiments in the share, {kept} in clones; nothing lost")
    assert sent
    assert kept


def saved_by(user: User) -> list[str]:
    """Return the experiments in a clone."""
    said = user.ok("git for-each-ref --format='%(refname)' refs/exps")
    refs = [ref for ref in said.splitlines() if "/exec/" not in ref]
    return [ref.rpartition("/")[2] for ref in refs if "stash" not in ref]
