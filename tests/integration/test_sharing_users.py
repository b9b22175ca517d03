"""A share of real Unix users, who all have the umask 022: one founds it, one joins, one stays outside."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from support.team import STAGES, User, make_users

FOUNDER, MEMBER, OUTSIDER, GROUP = 40011, 40012, 40013, 40510
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")


@pytest.fixture
def users(tmp_path: Path) -> dict[int, User]:
    """Three users, of whom two are in the group."""
    groups = {FOUNDER: [GROUP], MEMBER: [GROUP], OUTSIDER: []}
    return {user.number: user for user in make_users(tmp_path, groups)}


def test_a_team_is_set_up_by_one_command_each(users: dict[int, User], tmp_path: Path):
    founder, member, outsider = (users[n] for n in (FOUNDER, MEMBER, OUTSIDER))
    teams = tmp_path / "teams"
    teams.mkdir(mode=0o755)
    os.chown(teams, FOUNDER, FOUNDER)
    share = teams / "atlantic"

    founder.ok("mkdir work && cd work && git init -q -b main && dvc init -q")
    work = founder.home / "work"
    (work / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    (work / "params.yaml").write_text("x: 1\n")
    (work / "base.txt").write_text("base\n")
    founder.ok("git add -A && git commit -qm A")
    founder.ok("dvc repro -q && git add -A && git commit -qm B")
    init = f"mllam-exps share init {share} --group {GROUP}"
    planned = founder.ok(f"{init} --dry-run")
    assert "would make it a bare git repository" in planned
    assert not share.exists()
    assert "copy 4 objects of" in founder.ok(init), (
        "two outputs, and how they were made"
    )
    assert founder.ok(init).splitlines() == [
        f"{share} is a share of the group {GROUP}",
        f"{work} uses the share {share}",
        "git push share main: with that a colleague begins",
    ]
    founder.ok("git push -q share main")
    founder.ok("mllam-exps submit -n e1 -S x=2 && mllam-exps status --watch")
    founder.ok("mllam-exps push e1")

    trust = f"git config --global --add safe.directory {share}"
    member.ok(f"{trust} && git clone -q {share} work")
    member.ok(f"mllam-exps share join {share} && mllam-exps pull e1")
    member.ok("dvc exp apply e1")
    assert "Running stage" not in member.ok("dvc repro")
    assert (member.home / "work/grown.txt").read_text() == "base\nx: 2\n"
    member.ok(
        "git checkout -q . && mllam-exps submit -n f1 -S x=3,2 && mllam-exps status --watch"
    )
    assert "e1" in member.ok("mllam-exps status --all"), "the store is the team's"
    member.ok(
        "mllam-exps push f1-1 && mllam-exps share check && mllam-exps share check f1-1"
    )
    founder.ok("mllam-exps pull f1-1 && mllam-exps share check")

    # The catalogue: everybody's, and words on it that are one's own to take back.
    member.ok("mllam-exps tag e1 'f1-*' good && mllam-exps note e1 'a start'")
    found = json.loads(founder.ok("mllam-exps list 'x=2 and tag=good' --json"))
    assert {(one["name"], one["person"]) for one in found} == {
        ("e1", str(FOUNDER)),
        ("f1-2", str(MEMBER)),
    }
    assert founder.types("mllam-exps tag --remove e1 good").returncode == 2
    assert f"good ({MEMBER}, 20" in founder.ok("mllam-exps show e1")
    marks = share / "cache/mllam-exps/marks"
    for planted in (f"rm -f {marks}/*", f"echo x > {marks}/{MEMBER}.json"):
        assert founder.types(planted).returncode != 0
    assert "a start" in founder.ok("mllam-exps note e1"), "sticky: not even its founder"
    founder.ok("mllam-exps share check")

    outside = outsider.types(f"mllam-exps share check {share}")
    assert outside.returncode == 2
    assert "this share cannot be entered" in outside.stdout
    assert outsider.types(f"ls {share}").returncode != 0
    for planted in ("hooks/post-update", "config", "HEAD"):
        assert member.types(f"echo x >> {share}/{planted}").returncode != 0
    assert member.types(f"mv {share}/hooks {share}/away").returncode != 0
    [made] = [
        path
        for path in (share / "cache/files/md5").rglob("*")
        if path.is_file() and path.read_text() == "base\n"
    ]
    assert member.types(f"chmod u+w {made}; echo x >> {made}").returncode != 0

    # What a member breaks of their own is found by the other, and mended by its owner.
    member.ok(f"chmod 777 $(find {share}/files -type d -user {MEMBER} | head -n 1)")
    wrong = founder.types("mllam-exps share check --fix")
    assert (wrong.returncode, f"ask {MEMBER} to type" in wrong.stdout) == (1, True)
    member.ok("mllam-exps share check --fix")
    founder.ok("mllam-exps share check")

    # What nobody needs: a member cannot look into another's home.
    collect = "mllam-exps share gc --older-than 0m --yes --json"
    member.ok("git checkout -q . && dvc exp run -q -n g1 -S x=9")
    assert unneeded(founder.ok(collect)) == 0, "it came after its owner said anything"
    assert unneeded(member.ok(collect)) == 0
    member.ok(
        f"dvc exp remove -q g1 && git checkout -q . && dvc checkout -q && {collect} --dry-run"
    )
    assert unneeded(founder.ok(collect)) == 0, "its owner said that it is needed"
    member.ok(f"mllam-exps share join {share}")
    assert unneeded(founder.ok(collect)) == 1
    [aside] = [path for path in (share / "unneeded").rglob("*") if path.is_file()]
    assert (aside.read_text(), aside.stat().st_uid) == ("base\nx: 9\n", MEMBER)
    assert "1 object" in member.ok("mllam-exps share gc --restore")
    member.ok("mllam-exps share check")
    assert outsider.types(f"mllam-exps share gc {share} --yes").returncode == 2


def unneeded(told: str) -> int:
    """Return how many objects nobody needs, by the answer of `share gc`."""
    # What was done is told on standard error.
    record, _ = json.JSONDecoder().raw_decode(told)
    found: int = record["unneeded"]["objects"]
    return found
