"""What the model must reach on the real file, out of fold, as `churn evaluate` measures it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CHURN = str(Path(sys.executable).with_name("churn"))


def test_the_floors(tmp_path, public_csv):
    environment = {**os.environ, "CHURN_HOME": str(tmp_path)}
    done = subprocess.run(
        [CHURN, "evaluate", "--csv", str(public_csv), "--repeats", "2"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("reports/evaluation/*/figures.json")
    found = json.loads(written.read_text())
    assert found["ahead_in_repeats"] == 2
    model = {name: figure["mean"] for name, figure in found["model"].items()}
    assert 0.848 <= model["roc_auc"] <= 0.86
    assert model["pr_auc"] >= 0.668
    assert model["brier"] <= 0.1335
    assert model["ece"] <= 0.03
    assert found["leak_suspected"] is False
