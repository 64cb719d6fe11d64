"""The README's code blocks work as they stand, one after the other."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from configs.settings import PROJECT_ROOT

README = (PROJECT_ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
ELSEWHERE = {
    # test_bare_debian.py runs both where nothing is installed, tests/functional/test_demo.py the demo.
    'python3 -m venv ~/.uv && ~/.uv/bin/pip install uv && export PATH="$PATH:$HOME/.uv/bin"\nuv run churn demo\n',
    "uv run poe test\n",
}


def test_the_two_commands_are_there():
    assert set(BLOCKS) >= ELSEWHERE


@pytest.mark.timeout(900)
def test_the_blocks_run_in_order(tmp_path, telco_csv, port):
    script = "\n".join(block for block in BLOCKS if block not in ELSEWHERE).replace("3000", str(port))
    customer = telco_csv.read_text().splitlines()[1].split(",")[0]
    script = script.replace("7590-VHVEG", customer)
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=PROJECT_ROOT,
        env={
            **os.environ,
            "CHURN_HOME": str(tmp_path / "home"),
            "CHURN_TRAINING__TRIALS": "3",
            "CSV": str(telco_csv),
            "UV_NO_SYNC": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=840,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "promoted to champion" in done.stdout
    assert '"probability":' in done.stdout.replace(" :", ":")
    assert "logistic regression" in done.stdout


PAGES = sorted([PROJECT_ROOT / "README.md", *(PROJECT_ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT_ROOT)))
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []
