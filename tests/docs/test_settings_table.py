"""docs/operations.md lists every setting, with its default and its variable."""

from __future__ import annotations

import json
import tomllib

import pytest

from configs.settings import CONFIG_DIR, PROJECT_ROOT

PAGE = (PROJECT_ROOT / "docs" / "operations.md").read_text()
SETTINGS = tomllib.loads((CONFIG_DIR / "default.toml").read_text())
ROWS = [(section, key, value) for section, keys in SETTINGS.items() for key, value in keys.items()]


@pytest.mark.parametrize(("section", "key", "value"), ROWS, ids=[f"{section}.{key}" for section, key, _ in ROWS])
def test_the_row_says_what_the_file_says(section, key, value):
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{section}.{key}` |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == f"`{json.dumps(value)}`"
    assert f"`CHURN_{section}__{key}`".replace(section, section.upper()).replace(key, key.upper()) in row


def test_no_row_is_about_a_setting_that_is_gone():
    listed = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")}
    sections = tuple(f"{section}." for section in SETTINGS)
    assert {name for name in listed if name.startswith(sections)} == {f"{s}.{k}" for s, k, _ in ROWS}
