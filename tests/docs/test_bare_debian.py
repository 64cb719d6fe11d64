"""The README's two commands where nothing is installed, as an ordinary user and as root."""

from __future__ import annotations

import re

import pytest

from tests.docs.test_readme import ELSEWHERE
from tests.programs import MISSING, PROGRAMS
from tests.support.bare_debian import USER, BareDebian

SET_UP, TESTS = (block.strip() for block in sorted(ELSEWHERE, key=len, reverse=True))
DEMO = SET_UP.replace("churn demo", "churn demo --customers 500 --months 3")
ANSWER = r"customer \S+: +[\d.]+% -> (?:churn|stay)"
# One of each server, and the browser.
FEW = (
    "tests/unit/feature_repo/stores/online_read/test_redis_connection.py",
    "tests/functional/test_prod_profile.py",
    "'tests/functional/test_ui.py::test_it_shows_what_the_service_says[leaver]'",
)

pytestmark = [pytest.mark.full, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def bare(as_root, tmp_path_factory):
    """One that has just been made, and is gone afterwards."""
    with BareDebian(tmp_path_factory.mktemp("bare")) as system:
        yield system


def test_an_ordinary_user_gets_the_demo_and_is_told_what_the_tests_lack(bare):
    bare.clone(USER)
    demo = bare.run(USER, f"set -e\n{DEMO}")
    assert demo.returncode == 0, demo.stdout
    assert len(re.findall(ANSWER, demo.stdout)) == 3
    tests = bare.run(USER, f'export PATH="$PATH:$HOME/.uv/bin"\n{TESTS}')
    assert tests.returncode == MISSING, tests.stdout
    assert "test session starts" not in tests.stdout
    (command,) = [line for line in tests.stdout.splitlines() if "apt-get install" in line]
    told = set(command.split())
    assert {each.package for each in PROGRAMS.values() if each.tier == "test"} <= told
    assert not {each.package for each in PROGRAMS.values() if each.tier == "full"} & told


def test_root_gets_the_demo_and_what_the_tests_lack(bare):
    bare.clone("root")
    demo = bare.run("root", f"set -e\n{DEMO}")
    assert demo.returncode == 0, demo.stdout
    assert len(re.findall(ANSWER, demo.stdout)) == 3
    tests = bare.run("root", f'export PATH="$PATH:$HOME/.uv/bin"\n{TESTS} {" ".join(FEW)}')
    assert tests.returncode == 0, tests.stdout
    assert "installing chromium curl postgresql redis-server with apt-get" in tests.stdout
    assert "failed" not in tests.stdout.splitlines()[-1]
    assert "passed" in tests.stdout
