"""What may not be committed."""

from __future__ import annotations

import re
import subprocess
import tomllib

from configs.settings import PROJECT_ROOT

HOSTS = re.compile(r"https?://[^\s\"']*(pypi|pythonhosted|npmjs|maven|crates)\S*", re.IGNORECASE)
MACHINE = re.compile(r"(?<![\w./])/(work|root|home/\w+)/\w")


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True, cwd=PROJECT_ROOT).stdout
    names = [name for name in listed.decode().split("\0") if name]
    return [path for name in names if (path := PROJECT_ROOT / name).is_file()]


def test_no_registry_host_and_no_machine_path_is_committed():
    found = []
    for path in tracked():
        if path == PROJECT_ROOT / "tests/architecture/test_repository.py":
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.name}: {hit.group()}" for pattern in (HOSTS, MACHINE) for hit in pattern.finditer(text)]
    assert found == []


def test_the_lock_and_the_data_stay_out():
    names = {str(path.relative_to(PROJECT_ROOT)) for path in tracked()}
    assert "uv.lock" not in names
    assert {name for name in names if name.startswith("data/")} <= {"data/feast/.gitkeep"}


def test_every_dependency_is_pinned():
    content = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())
    pinned = {re.split(r"[=<>;\[ ]", line)[0].lower() for line in content["tool"]["uv"]["constraint-dependencies"]}
    wanted = content["project"]["dependencies"] + [
        line for extra in content["project"]["optional-dependencies"].values() for line in extra
    ]
    named = {re.split(r"[=<>;\[ ]", line)[0].lower() for line in wanted}
    assert named - pinned == {"xgboost"} - pinned
