"""Feast's own command line, on the stores that the settings describe."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from configs.settings import Settings
from feature_repo.stores.opening import REPO_PATH, configuration, folder


def run(settings: Settings, arguments: Sequence[str]) -> int:
    """Run ``feast <arguments>`` and return its exit code.

    The configuration holds secrets: it goes into a file that only its owner reads and that is gone afterwards.
    """
    import yaml

    folder(settings).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="churn-feast-") as aside:
        path = Path(aside) / "feature_store.yaml"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(configuration(settings)), encoding="utf-8")
        command = [sys.executable, "-m", "feast.cli.cli", "-c", str(REPO_PATH), "-f", str(path), *arguments]
        return subprocess.run(command, check=False, env=dict(os.environ)).returncode  # noqa: S603 - Feast itself
