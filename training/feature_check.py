"""Consistency of the files that declare features: each finding names the feature, the file and what to add.

The contract is held against the transforms, the reason codes, the designs, the levers, the freshness policy, the
columns of an extract and the suites of the quality gate. :func:`contract_findings` reads the contract alone:
:func:`findings` imports modules that need a consistent one.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from configs.errors import ChurnError
from feature_repo.contract import (
    BEHAVIOR,
    BEHAVIOR_SERVICE,
    BY_NAME,
    CORE_SERVICE,
    CSV_KEY,
    CSV_LABEL,
    DERIVED,
    FEATURES,
    MILESTONES,
    OBSERVED_AT_US,
    SERVICES_OF,
    SNAPSHOT_DERIVED,
    STORED,
    TILES,
    VIEWS,
    WINDOW_DAYS,
    Feature,
)
from feature_repo.definition_hash import CONTRACT_FILE, TRANSFORMS_FILE

COLUMNS_FILE: Final = "feature_repo/raw/snapshots/telco_csv.py"
DESIGNS_FILE: Final = "training/model/feature_columns.py"
REASONS_FILE: Final = "configs/reason_codes.toml"
LEVERS_FILE: Final = "configs/levers.toml"
FRESHNESS_FILE: Final = "configs/freshness.toml"
RAW_SUITE_FILE: Final = "configs/expectations/telco_raw.json"
SNAPSHOT_SUITE_FILE: Final = "configs/expectations/telco_snapshot.json"
TEXT_FILES: Final = (REASONS_FILE, LEVERS_FILE, FRESHNESS_FILE, RAW_SUITE_FILE, SNAPSHOT_SUITE_FILE)
"""The files whose text :func:`findings` takes."""
MODEL_SERVICES: Final = (CORE_SERVICE, BEHAVIOR_SERVICE)
_COMPUTED: Final = (*SNAPSHOT_DERIVED, BEHAVIOR)
_DAY_US: Final = 86_400_000_000
_TODAY: Final = 20_000


@dataclass(frozen=True, order=True)
class Finding:
    """One inconsistency.

    Parameters
    ----------
    feature
        Name of the feature; of a view, service or code where no single feature is wrong.
    file
        The file to change, relative to the project.
    message
        What is wrong, and what to add.

    Examples
    --------
    >>> from training.feature_check import Finding
    >>> str(Finding("tickets_7d", "feature_repo/transforms.py", "windows() does not compute it; return it there"))
    'tickets_7d: feature_repo/transforms.py: windows() does not compute it; return it there'
    """

    feature: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.feature}: {self.file}: {self.message}"


def contract_findings() -> list[Finding]:
    """Return what is inconsistent within the contract.

    Examples
    --------
    >>> from training.feature_check import contract_findings
    >>> contract_findings()
    []
    """
    return [Finding(name, CONTRACT_FILE, message) for name, message in _contract_faults()]


def findings(texts: Mapping[str, str]) -> list[Finding]:
    """Return the inconsistencies between the contract, which must be consistent itself, and the other files.

    Parameters
    ----------
    texts
        File -> its text, for each of :data:`TEXT_FILES`.

    Returns
    -------
    list of Finding
        In the order of the files; empty if all agree.
    """
    return [
        *_transform_findings(),
        *_reason_and_lever_findings(texts[REASONS_FILE], texts[LEVERS_FILE]),
        *dict.fromkeys(_design_findings()),  # both services read the core features
        *_freshness_findings(texts[FRESHNESS_FILE]),
        *_extract_findings(texts[RAW_SUITE_FILE], texts[SNAPSHOT_SUITE_FILE]),
    ]


def _contract_faults() -> Iterator[tuple[str, str]]:
    stored, computed = {view.name for view in VIEWS}, {view.name for view in _COMPUTED}
    names = [feature.name for feature in FEATURES]
    yield from ((name, "it is declared twice in FEATURES") for name, count in Counter(names).items() if count > 1)
    for feature in FEATURES:
        if feature.view not in stored | computed:
            yield feature.name, f"its view {feature.view} is in neither VIEWS nor the views computed at read time"
        elif feature.derived != (feature.view in computed):
            needed = "no column" if feature.view in computed else "the column that it is read from"
            yield feature.name, f"a feature of the view {feature.view} has {needed}"
        if feature.dtype == "string" and not feature.categories:
            yield feature.name, "a string needs its categories, the closed domain"
    yield from _service_faults()


def _service_faults() -> Iterator[tuple[str, str]]:
    for service, read in SERVICES_OF.items():
        for name in read:
            if name not in BY_NAME:
                yield name, f"{service} reads it; add it to FEATURES, or remove it from the service"
            elif BY_NAME[name].protected and service in MODEL_SERVICES:
                yield name, f"it is protected, and the model service {service} reads it; remove it there"
    used = {name for read in SERVICES_OF.values() for name in read} | {tile.name for tile in TILES}
    for name in BY_NAME:
        if name not in used:
            yield name, "no feature service reads it; add it to a service in SERVICES_OF, or delete it from FEATURES"


def _transform_findings() -> Iterator[Finding]:
    from feature_repo import transforms

    # A customer with something on each day, so that no window is null for want of events.
    days = list(range(_TODAY - WINDOW_DAYS + 1, _TODAY + 1))
    now_us = (_TODAY + 1) * _DAY_US - 1
    row: dict[str, list[Any]] = {feature.name: [_sample(feature)] for feature in STORED}
    row |= {tile.name: [now_us] if tile.dtype == "int64" else [[1] * len(days)] for tile in TILES}
    row |= {tile.name: [days] for tile in TILES if tile.name.endswith(("_on", "_since"))}
    row[OBSERVED_AT_US] = [now_us]
    for view, function in (
        (DERIVED, transforms.derive),
        (MILESTONES, transforms.milestones),
        (BEHAVIOR, transforms.windows),
    ):
        yield from _computed_findings(view.name, function, row, null_is_absent=view is BEHAVIOR)


def _computed_findings(
    view: str,
    function: Callable[[Mapping[str, Sequence[Any]]], Mapping[str, Sequence[Any]]],
    row: Mapping[str, Sequence[Any]],
    *,
    null_is_absent: bool,
) -> Iterator[Finding]:
    declared = [feature.name for feature in FEATURES if feature.view == view]
    call = f"{function.__name__}()"
    try:
        found = function(row)
    except KeyError as absent:
        yield Finding(
            str(absent.args[0]),
            TRANSFORMS_FILE,
            f"{call} reads it, and the contract has no such feature; change the function, or add it to {CONTRACT_FILE}",
        )
        return
    except Exception as broken:  # noqa: BLE001 - an author's function may raise anything
        yield Finding(view, TRANSFORMS_FILE, f"{call} fails on a customer: {type(broken).__name__}: {broken}")
        return
    for name in declared:
        if name not in found or (null_is_absent and found[name][0] is None):
            yield Finding(name, TRANSFORMS_FILE, f"{call} does not compute it; return its values there")
    for name in found:
        if name not in declared:
            yield Finding(
                name,
                CONTRACT_FILE,
                f"{call} of {TRANSFORMS_FILE} computes it, and no feature of the view {view} has this name; add it to "
                "FEATURES, or do not return it",
            )


def _sample(feature: Feature) -> Any:
    if feature.categories:
        return feature.categories[-1]
    return {"bool": True, "int64": 1, "float64": 1.0}[feature.dtype]


def _design_findings() -> Iterator[Finding]:
    from training.model.feature_columns import DESIGNS

    for service in MODEL_SERVICES:
        if service not in DESIGNS:
            yield Finding(service, DESIGNS_FILE, "it has no design; add it to DESIGNS")
            continue
        linear, trees = (
            {factor.feature for column in design for factor in column.factors}
            for design in (DESIGNS[service].linear, DESIGNS[service].trees)
        )
        read = SERVICES_OF[service]
        for name in read:
            part = "" if name in SERVICES_OF[CORE_SERVICE] else "BEHAVIOR_"
            if name not in linear:
                yield Finding(name, DESIGNS_FILE, f"no column of the linear part reads it; add one to {part}LINEAR")
            # A number that is computed from the snapshot adds nothing to trees that read its inputs.
            number = BY_NAME[name].dtype in {"int64", "float64"}
            if number and name not in trees and BY_NAME[name].view != DERIVED.name:
                yield Finding(name, DESIGNS_FILE, f"no column of the trees reads it; add one to {part}TREES")
        for name in sorted((linear | trees) - set(read)):
            yield Finding(name, DESIGNS_FILE, f"a column reads it, and {service} lacks it; remove the column")


def _reason_and_lever_findings(reasons: str, levers: str) -> Iterator[Finding]:
    from bentos.decisions.levers import parse_levers
    from bentos.decisions.reason_codes import parse_reason_codes

    named = _features_by_code(reasons)
    found = {} if named is None else {each.feature: each for each in _reason_findings(named)}
    yield from found.values()
    if found:
        return
    changeable = _actionable(levers)
    for service in MODEL_SERVICES:
        try:
            dictionary = parse_reason_codes(reasons, service)
        except ChurnError as broken:
            yield Finding(service, REASONS_FILE, broken.message)
            return
        try:
            parse_levers(levers, service, dictionary)
        except ChurnError as broken:
            yield Finding(service, LEVERS_FILE, broken.message)
            return
    for code, entry in dictionary.codes.items():
        for name in entry.features if entry.actionable else ():
            if not BY_NAME[name].derived and name not in changeable:
                yield Finding(
                    name,
                    LEVERS_FILE,
                    f"its reason code {code} is actionable, and a what-if can't change it; add it to [actionable], or "
                    f"put it under a code that is not actionable in {REASONS_FILE}",
                )


def _reason_findings(named: Mapping[str, Collection[str]]) -> Iterator[Finding]:
    for name in dict.fromkeys(name for service in MODEL_SERVICES for name in SERVICES_OF[service]):
        codes = [code for code, features in named.items() if name in features]
        if not codes:
            yield Finding(name, REASONS_FILE, "it stands under no reason code; add it to the features of exactly one")
        elif len(codes) > 1:
            yield Finding(name, REASONS_FILE, f"it stands under {', '.join(codes)}; keep it under exactly one")
    readable = {name for read in SERVICES_OF.values() for name in read if name in BY_NAME}
    for code, features in named.items():
        for name in features:
            if name not in readable:
                yield Finding(name, REASONS_FILE, f"{code} names it, and no feature service reads it; remove it there")
            elif BY_NAME[name].protected:
                yield Finding(name, REASONS_FILE, f"{code} names it, and it is protected; remove it there")


def _features_by_code(text: str) -> dict[str, list[str]] | None:
    """Return code -> its features; None for a file of another form, which the parser of the dictionary refuses."""
    try:
        return {code: list(entry["features"]) for code, entry in tomllib.loads(text)["codes"].items()}
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError):
        return None


def _actionable(text: str) -> Collection[str]:
    """Return the features of a file of levers; none for a file of another form, which the parser refuses."""
    try:
        return set(tomllib.loads(text)["actionable"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError):
        return set()


def _freshness_findings(text: str) -> Iterator[Finding]:
    from feature_repo.stores.freshness import parse_freshness

    try:
        views = set(tomllib.loads(text)["views"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError):
        views = None
    absent = [] if views is None else [view for view in VIEWS if view.online and view.name not in views]
    for view in absent:
        features = ", ".join(feature.name for feature in FEATURES if feature.view == view.name)
        yield Finding(view.name, FRESHNESS_FILE, f"it has no entry; add [views.{view.name}] for {features}")
    if absent:
        return
    try:
        parse_freshness(text)
    except ChurnError as broken:
        yield Finding("freshness", FRESHNESS_FILE, broken.message)


def _extract_findings(raw: str, snapshot: str) -> Iterator[Finding]:
    from feature_repo.raw.snapshots.telco_csv import CSV_COLUMNS

    for feature in STORED:
        if feature.column not in CSV_COLUMNS:
            yield Finding(
                feature.name, COLUMNS_FILE, f"its column {feature.column} is not in CSV_COLUMNS; add it there"
            )
    known = {feature.column for feature in STORED} | {CSV_KEY, CSV_LABEL}
    for column in CSV_COLUMNS:
        if column not in known:
            yield Finding(
                column,
                COLUMNS_FILE,
                f"CSV_COLUMNS has it, and no feature is read from it; remove it, or add a feature to {CONTRACT_FILE}",
            )
    suites: dict[str, list[dict[str, Any]]] = {}
    for file, text in ((RAW_SUITE_FILE, raw), (SNAPSHOT_SUITE_FILE, snapshot)):
        try:
            suites[file] = [{"type": each["type"], **each["kwargs"]} for each in json.loads(text)["expectations"]]
        except (ValueError, KeyError, TypeError) as broken:
            yield Finding("gate", file, f"the suite can't be read: {type(broken).__name__}: {broken}")
            return
    yield from _raw_suite_findings(suites[RAW_SUITE_FILE], known)
    ranged = {rule.get("column") for rule in suites[SNAPSHOT_SUITE_FILE]}
    for feature in STORED:
        if feature.dtype in {"int64", "float64"} and feature.name not in ranged:
            yield Finding(feature.name, SNAPSHOT_SUITE_FILE, "no rule bounds it; add an expectation of its range")


def _raw_suite_findings(rules: Sequence[Mapping[str, Any]], known: Collection[str]) -> Iterator[Finding]:
    sets = [rule["column_set"] for rule in rules if "column_set" in rule]
    for feature in STORED:
        column = feature.column
        if short := sum(column not in each for each in sets):
            yield Finding(
                feature.name, RAW_SUITE_FILE, f"{short} of {len(sets)} column sets lack its column {column}; add it"
            )
        own = [rule for rule in rules if rule.get("column") == column]
        if not own:
            yield Finding(feature.name, RAW_SUITE_FILE, f"no rule checks its column {column}; add one of its domain")
        for rule in own:
            allowed = rule.get("value_set")
            if feature.categories and allowed is not None and set(allowed) != set(feature.categories):
                differing = ", ".join(map(repr, sorted(set(allowed) ^ set(feature.categories))))
                yield Finding(
                    feature.name, RAW_SUITE_FILE, f"value_set and the categories of {CONTRACT_FILE} differ: {differing}"
                )
    for column in sorted({name for each in sets for name in each} - set(known)):
        yield Finding(
            column,
            RAW_SUITE_FILE,
            f"a column set has it, and no feature is read from it; remove it, or add a feature to {CONTRACT_FILE}",
        )
