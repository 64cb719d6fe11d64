"""Expectation suites of the data-quality gate, read from ``configs/expectations/`` and validated.

See docs/decisions/0011-gate-suites.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from configs.errors import SettingsError
from configs.settings import CONFIG_DIR
from configs.text import decoded
from feature_repo.files.regular_files import read_regular

SUITES: Final = CONFIG_DIR / "expectations"
RAW_SUITE: Final = "telco_raw"
SNAPSHOT_SUITE: Final = "telco_snapshot"


class _Meta(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rule: str
    column: str = ""
    why: str
    quarantine: bool = False
    shows: tuple[str, ...] = ()


class _Expectation(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: str
    kwargs: dict[str, Any]
    severity: Literal["critical", "warning", "info"]
    meta: _Meta


class _Suite(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    description: str
    extra_columns_allowed: tuple[str, ...] = ()
    expectations: tuple[_Expectation, ...]


def load_suite(name: str, folder: Path = SUITES) -> dict[str, Any]:
    """Read ``<folder>/<name>.json``, by default from ``configs/expectations/``.

    Returns
    -------
    dict
        name, description, extra_columns_allowed (column names), expectations: a list of {type, kwargs, severity
        (critical | warning | info), meta: {rule, column, why, quarantine, shows}}.

    Raises
    ------
    SettingsError
        If the file is not JSON, holds an unknown key, lacks one, or names a rule twice. The message names the
        location or the rule.
    """
    path = folder / f"{name}.json"
    hint = f"correct {path}: one object per rule, in the shape of the others"
    try:
        suite = _Suite.model_validate(json.loads(decoded(read_regular(path))))
    except ValidationError as broken:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in broken.errors())
        raise SettingsError(f"the suite {name} is invalid: {found}", hint) from None
    except (OSError, ValueError) as broken:
        raise SettingsError(f"the suite {name} cannot be read: {broken}", hint) from None
    rules = [expectation.meta.rule for expectation in suite.expectations]
    if twice := sorted({rule for rule in rules if rules.count(rule) > 1}):
        raise SettingsError(f"the suite {name} is invalid: rule {', '.join(twice)} occurs twice", hint)
    return suite.model_dump()
