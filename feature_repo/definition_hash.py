"""Hashes of what features mean: declaration in the contract, and the source of the transform that computes them.

Standard library only. A bundle keeps the hashes that it was trained on; see
docs/decisions/0044-versioned-feature-services.md.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from feature_repo import contract
from feature_repo.contract import (
    ACTIVITY_VIEWS,
    BEHAVIOR,
    DERIVED,
    MILESTONES,
    SAME_CONTRACTS,
    Feature,
    features_of,
)
from feature_repo.source_slices import slice_of

CONTRACT_FILE: Final = "feature_repo/contract.py"
TRANSFORMS_FILE: Final = "feature_repo/transforms.py"
_ROOTS: Final = {
    DERIVED.name: "derive",
    MILESTONES.name: "milestones",
    BEHAVIOR.name: "windows",
    **{view.name: "tiles" for view in ACTIVITY_VIEWS},
}
"""View -> the function of transforms.py that computes its features. The other views hold the extract's columns."""
_TABLES: Final = (contract.View, contract.Feature)
_DIGITS: Final = 16


def contract_hash(service: str) -> str:
    """Return the sha256 (hex) of a version of a service: its name, and its features' hashes in order.

    Raises
    ------
    KeyError
        For an unknown service.

    Examples
    --------
    >>> from feature_repo.contract import CORE_SERVICE
    >>> from feature_repo.definition_hash import contract_hash
    >>> len(contract_hash(CORE_SERVICE))
    64
    """
    rows = [[each.name, feature_hash(each)] for each in features_of(service)]
    return _sha256([service, rows])


def feature_hashes(service: str) -> dict[str, str]:
    """Return feature -> hash of its meaning, for each feature of a service.

    A hash has two parts, ``declaration:computation``: name, type, unit, source, domain and whether it may be null; and
    the transform's source with all that it reads. The second part is empty for a column of the extract. Descriptions,
    layout, comments and docstrings are in neither.
    """
    return {each.name: feature_hash(each) for each in features_of(service)}


@functools.cache
def feature_hash(feature: Feature) -> str:
    """Return the two parts of one feature's hash; see :func:`feature_hashes`."""
    declared = {key: value for key, value in asdict(feature).items() if key != "description"}
    computed = _sha256(_computation(feature.name))[:_DIGITS] if feature.view in _ROOTS else ""
    return f"{_sha256(declared)[:_DIGITS]}:{computed}"


def same_contract(service: str, known: str) -> bool:
    """Return whether the hash ``known``, of now or of an earlier version, is that of this code's ``service``."""
    return service in contract.SERVICES_OF and canonical(known) == contract_hash(service)


def canonical(known: str) -> str:
    """Return the present hash of the contract that an earlier version gave the hash ``known``, else ``known``."""
    return next((now for now, earlier in SAME_CONTRACTS.items() if known in earlier), known)


def changed_features(service: str, hashes: Mapping[str, str]) -> dict[str, str]:
    """Return feature -> file, for each feature of a service that differs from a bundle's ``hashes``.

    The file is the one that holds the difference. Both sides may lack a feature.
    """
    now = feature_hashes(service)
    found = {}
    for name in sorted({*now, *hashes}):
        before, after = hashes.get(name, ":"), now.get(name, ":")
        if before != after:
            declared = before.partition(":")[0] != after.partition(":")[0]
            found[name] = CONTRACT_FILE if declared else TRANSFORMS_FILE
    return found


@functools.cache
def _transforms() -> str:
    return Path(__file__).with_name("transforms.py").read_text(encoding="utf-8")


@functools.cache
def _computation(name: str) -> dict[str, object]:
    """Return what a computed feature is made from: code, constants of the contract, and its inputs in turn."""
    feature = contract.BY_NAME[name]
    found = slice_of(_transforms(), _ROOTS[feature.view], name, contract.BY_NAME)
    constants = {each: value for each in sorted(found.names) if _is_plain(value := getattr(contract, each, None))}
    mentioned = found.names.union(*(value for value in constants.values() if isinstance(value, tuple)))
    inputs = sorted(each for each in mentioned & contract.BY_NAME.keys() if _feeds(contract.BY_NAME[each], feature))
    return {
        "code": found.text,
        "constants": {each: repr(value) for each, value in constants.items()},
        "inputs": {each: feature_hash(contract.BY_NAME[each]) for each in inputs},
    }


def _feeds(each: Feature, feature: Feature) -> bool:
    # Stored features feed the computed ones; tiles are computed from events, and no feature from one of its own kind.
    return each.view not in {DERIVED.name, MILESTONES.name, BEHAVIOR.name} and _ROOTS[feature.view] != "tiles"


def _is_plain(value: object) -> bool:
    """Return whether a constant has a value that a feature may depend on: not one of the tables of all features."""
    if isinstance(value, tuple):
        return bool(value) and all(isinstance(each, str | int | float) for each in value)
    return isinstance(value, str | int | float)


def _sha256(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
