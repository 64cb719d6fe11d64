"""What the tests start is registered in one place, and each tier brings or names it before a test runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

from configs.settings import PROJECT_ROOT
from tests.programs import MISSING, PROGRAMS, TIERS, missing, program

TESTS = PROJECT_ROOT / "tests"
ASKED = {
    path: set(re.findall(r"\bprogram\(\"([\w-]+)\"\)", path.read_text(encoding="utf-8")))
    for path in TESTS.rglob("*.py")
    if path.parent.name != "architecture"
}


def test_what_a_test_asks_for_is_registered():
    assert {"redis-server", "chromium", "initdb"} <= set().union(*ASKED.values()) <= set(PROGRAMS)


def test_a_tier_starts_no_program_of_a_dearer_one():
    dear = {name for name, each in PROGRAMS.items() if each.tier == "full"}
    cheap = {name for name, each in PROGRAMS.items() if each.tier == "quick"}
    tests = {path: names for path, names in ASKED.items() if path.name.startswith("test_")}
    assert [path for path, names in tests.items() if names & dear and "mark.full" not in path.read_text()] == []
    quick = [TESTS / folder for folder in ("unit", "property")]
    assert [path for path, names in tests.items() if names - cheap and {*quick} & {*path.parents}] == []


@pytest.mark.parametrize("tier", [*TIERS, "coverage"])
def test_each_tier_s_task_begins_with_its_set_up(tier):
    tasks = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["tool"]["poe"]["tasks"]
    begins = "test" if tier == "coverage" else tier
    assert tasks[tier]["cmd"].startswith(f"python tests/programs.py {begins} pytest ")


def test_the_readme_names_every_package():
    words = set(re.findall(r"`([\w-]+)`", (PROJECT_ROOT / "README.md").read_text()))
    assert {each.package for each in PROGRAMS.values()} - words == set()


def test_what_is_missing_is_listed_once_and_nothing_runs(tmp_path):
    """Without apt-get on PATH nobody may install, root or not."""
    command = [sys.executable, TESTS / "programs.py", "test", sys.executable, "-c", "open('ran', 'w')"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (MISSING, "", [])
    lines = done.stdout.splitlines()
    assert "  redis-server (Debian package redis-server)" in lines
    assert "  chromium (Debian package chromium)" in lines
    assert not [line for line in lines if "nginx" in line]
    (install,) = [line for line in lines if "apt-get install" in line]
    assert {"chromium", "curl", "git", "redis-server"} <= set(install.split())
    assert "sudo" not in done.stdout


def test_a_tier_that_lacks_nothing_becomes_its_command(tmp_path):
    """Stand-ins for what this machine may lack: only whether they are found counts here."""
    for name in PROGRAMS:
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    command = [sys.executable, TESTS / "programs.py", "full", sys.executable, "-c", "raise SystemExit(7)"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


def test_servers_are_found_where_an_ordinary_path_does_not_lead(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("tests.programs._SERVERS", (str(tmp_path / "sbin"),))
    (tmp_path / "sbin").mkdir()
    nginx = tmp_path / "sbin" / "nginx"
    nginx.write_text("")
    nginx.chmod(0o755)
    assert program("nginx") == str(nginx)
    assert "node" in {each.name for each in missing("full")}
    with pytest.raises(pytest.fail.Exception, match=r"node is not installed; as root: apt-get install .* nodejs"):
        program("node")
