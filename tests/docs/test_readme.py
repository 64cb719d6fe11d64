"""The README's code blocks work as they stand, one after the other, each part in the home that it names."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from configs.settings import PROJECT_ROOT
from feature_repo.raw.snapshots.publication import origin_of

README = (PROJECT_ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
DEMO = "uv run churn demo"
HOME = "CHURN_HOME=data/telco"
ELSEWHERE = {
    # test_bare_debian.py runs both where nothing is installed.
    'python3 -m venv ~/.uv && ~/.uv/bin/pip install uv && export PATH="$PATH:$HOME/.uv/bin"\nuv run churn demo\n',
    "uv run poe test\n",
}


def test_the_two_commands_are_there():
    assert set(BLOCKS) >= ELSEWHERE


@pytest.mark.timeout(900)
def test_the_parts_run_in_order_each_in_its_home(tmp_path, telco_csv, port):
    home = tmp_path / "data"
    # Of the demo's block the demo, on a small world: it leaves the default home to the parts behind it.
    parts = [DEMO if block.rstrip().endswith(DEMO) else block for block in BLOCKS if "poe test" not in block]
    assert parts[0] == DEMO
    script = "\n".join(parts).replace(DEMO, f"{DEMO} --customers 500 --months 3", 1).replace("3000", str(port))
    assert script.count(HOME) == 1
    script = script.replace(HOME, f"CHURN_HOME={home / 'telco'}")
    customer = telco_csv.read_text().splitlines()[1].split(",")[0]
    script = script.replace("7590-VHVEG", customer)
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=PROJECT_ROOT,
        env={
            **os.environ,
            "CHURN_HOME": str(home),
            "CHURN_TRAINING__FOLDS": "3",
            "CHURN_TRAINING__TRIALS": "1",
            "CSV": str(telco_csv),
            "UV_NO_SYNC": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=840,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every figure above is of simulated customers" in done.stdout
    assert "promoted to champion" in done.stdout
    assert '"probability":' in done.stdout.replace(" :", ":")
    assert "logistic regression" in done.stdout
    assert f"{home / 'telco'} (real customers)" in done.stdout
    assert [origin_of(folder) for folder in (home, home / "telco")] == ["simulated", "real"]


PAGES = sorted([PROJECT_ROOT / "README.md", *(PROJECT_ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT_ROOT)))
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []
