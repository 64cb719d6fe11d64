"""A home is the same whichever time zone its commands run in, also where they differ from command to command."""

import json
import os
import subprocess
import sys

import pytest

from configs.settings import PROJECT_ROOT

ZONES = [
    ("America/New_York", "UTC", "Asia/Kolkata"),
    pytest.param(("Asia/Kolkata", "America/New_York", "UTC"), marks=pytest.mark.full),
]


def run(folder, zone, *steps):
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.month_in_zone", str(folder / "home"), *steps]
    done = subprocess.run(
        command, cwd=PROJECT_ROOT, env=os.environ | {"TZ": zone}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What a home holds whose commands all ran in UTC."""
    return json.loads(run(tmp_path_factory.mktemp("utc"), "UTC", "publish", "materialize", "read").stdout)


@pytest.mark.parametrize("zones", ZONES, ids=lambda zones: "-".join(zones).replace("/", "."))
def test_bytes_instants_and_scores_are_those_of_utc(expected, tmp_path, zones):
    published, materialized, read = zones
    run(tmp_path, published, "publish")
    # The correction came when it was the same local time again: no guard takes it for an older row.
    assert json.loads(run(tmp_path, materialized, "materialize").stderr.splitlines()[-1]) == {"kept": {}}
    found = json.loads(run(tmp_path, read, "read").stdout)
    assert {name for name in expected if found[name] != expected[name]} == set()
    assert all(differing == 0 and customers for customers, _, differing in found["parity"].values())
    assert found["scores"]
