"""A world.json that names files: what a test wrote from simulated customers counts as simulated."""

from __future__ import annotations

import json
from pathlib import Path

from feature_repo.files.atomic_writes import file_sha256


def write_world_json(*files: Path) -> None:
    """Write the world.json of files in one folder, next to them."""
    content = {"simulated": True, "files": {file.name: file_sha256(file) for file in files}}
    (files[0].parent / "world.json").write_text(json.dumps(content))
