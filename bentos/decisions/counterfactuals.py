"""Counterfactual customers: validated changes, recomputed derived features, and the best lever. Pure.

A customer's values are (k,) in the contract's order of the service, Python values, None where null. See
docs/decisions/0028-levers.md.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bentos.decisions.feature_words import quoted, spoken
from bentos.decisions.levers import Choice, Lever, Levers, Value, by_name, contradictions
from configs.errors import ChurnError
from feature_repo.contract import SERVICES_OF, Feature, features_of
from feature_repo.transforms import Columns, derive, milestones

if TYPE_CHECKING:
    from feature_repo.stores.vectors import Vectors

Floats = NDArray[np.float64]

WHAT_IF_NOTE: Final = (
    "This is the risk of customers who have such values already: advice from a model of risk, not a statement about "
    "causes. Only a controlled test shows whether a change keeps this customer."
)
"""Note on how to read a what-if."""

_VECTORIZED_FROM: Final = 8
"""Number of customers from which comparing all their levers at once is faster."""
PLANS_MAX: Final = 4096
"""Kinds of customers in the cache; the public file has 201 kinds for a model without milestones, 3,441 with them."""


class WhatIfRefusedError(ChurnError):
    """The changes are not possible for this customer; the message lists every rule that they break."""

    error = "what_if_refused"
    http_status = 422


@dataclass(frozen=True)
class ChangedValue:
    """One value that differs between two states of a customer.

    Parameters
    ----------
    feature
        Name of the feature.
    before, after
        Its values, None where null.
    derived
        Whether it follows from others.
    """

    feature: str
    before: Any
    after: Any
    derived: bool


@dataclass(frozen=True)
class Recommendation:
    """A lever, and the score in [0, 1] of the customer as they would be with it."""

    lever: Lever
    score: float

    def worth(self, own: float) -> float:
        """Return the expected fall of the score: that of a customer who accepts, times the share who accept."""
        return _worth(self.lever, own, self.score)


@dataclass(frozen=True)
class LeverCandidates:
    """The lever candidates of n customers, to be scored.

    Parameters
    ----------
    options
        n times the customer's levers.
    vectors
        (m, f) float64, the customers with them applied: one row per customer and lever, in that order.
    """

    options: tuple[tuple[Lever, ...], ...]
    vectors: Vectors

    def best(self, own: Floats, scores: Floats) -> list[Recommendation | None]:
        """Return each customer's best lever, the first of equal ones; None if none lowers the score.

        The worth of a lever is the decrease of the score, times the share of customers who would accept the offer.

        Parameters
        ----------
        own
            (n,) the scores of the customers as they are.
        scores
            (m,) those of ``vectors``. A NaN is never the best.
        """
        if len(self.options) < _VECTORIZED_FROM:
            each = iter(scores.tolist())
            return [_best(levers, score, each) for levers, score in zip(self.options, own.tolist(), strict=True)]
        shares = np.array([lever.accept_share for levers in self.options for lever in levers])
        worths = shares * (np.repeat(own, [len(levers) for levers in self.options]) - scores)
        left = np.where(worths > 0, worths, 0.0).tolist()  # NaN is not greater
        found, at = scores.tolist(), 0
        best: list[Recommendation | None] = []
        for levers in self.options:
            some = left[at : at + len(levers)]
            most = max(some, default=0.0)
            place = some.index(most) if most else -1
            best.append(Recommendation(levers[place], found[at + place]) if most else None)
            at += len(levers)
        return best

    def ranked(self, own: Floats, scores: Floats) -> list[list[Recommendation]]:
        """Return all of each customer's levers, the one of the greatest worth first; parameters as of :meth:`best`.

        Equal ones keep the order of the file. A lever whose score is NaN is left out.
        """
        left = iter(scores.tolist())
        offers = [[Recommendation(lever, next(left)) for lever in levers] for levers in self.options]
        return [
            sorted((each for each in found if math.isfinite(each.score)), key=lambda each: -each.worth(score))
            for found, score in zip(offers, own.tolist(), strict=True)
        ]


def check_changes(levers: Levers, values: Sequence[Any], asked: Mapping[str, Any]) -> dict[str, Value]:
    """Return the validated changes of a what-if: feature -> new value, in the contract's order.

    Values that the customer already has are left out.

    Parameters
    ----------
    levers
        What may be changed.
    values
        (k,) the customer's own values.
    asked
        Name of a feature, or of its column in the extract -> value: a string of its domain, true or false (also "Yes"
        or "No") or a number.

    Raises
    ------
    WhatIfRefusedError
        If a name is unknown, not actionable or there twice, a value is not allowed, the values contradict each other
        or the customer's, or nothing changes. It names rules: never a value, and no name but the contract's own,
        because an unknown one is the caller's text and may be a customer id.
    """
    own = by_name(levers.features, values)
    known = _names(levers.service)
    seen: set[str] = set()
    found: dict[str, Value] = {}
    faults = ["a name is neither a feature of the model nor a column of the extract"] if asked.keys() - known else []
    for name in (name for name in asked if name in known):
        feature = known[name]
        choice, value = levers.choices.get(feature.name), _read(feature, asked[name])
        if feature.name in seen:
            faults.append(f"{spoken(feature.name)} is given twice: {feature.column} and {feature.name} are the same")
        elif choice is None:
            faults.append(f"{spoken(feature.name)} can't be changed")
        elif not choice.takes(value):
            faults.append(f"{spoken(feature.name)} must be {_allowed(choice)}")
        else:
            found[feature.name] = float(value) if feature.dtype == "float64" else value
        seen.add(feature.name)
    changes = {name: value for name, value in found.items() if value != own[name]}
    faults += contradictions(own | changes, changes)
    if not faults and not changes:
        faults.append("nothing changes")
    if faults:
        raise WhatIfRefusedError("; ".join(faults), f"what may be changed: {', '.join(levers.choices)}")
    return {feature.name: changes[feature.name] for feature in levers.features if feature.name in changes}


def apply_changes(service: str, values: Sequence[Any], changes: Mapping[str, Value]) -> tuple[Any, ...]:
    """Return a customer's values (k,) with changes, and derived values recomputed.

    Windows over events, and all else that does not depend on a change, stay as they are.

    Parameters
    ----------
    service
        The feature service.
    values
        (k,) the customer's values in contract order.
    changes
        Feature -> new value.

    Raises
    ------
    KeyError
        If the service has no such feature.

    Examples
    --------
    >>> from bentos.decisions.counterfactuals import apply_changes, differences
    >>> from feature_repo.contract import CORE_SERVICE, features_of
    >>> numbers = {"bool": True, "int64": 1, "float64": 20.0}
    >>> features = features_of(CORE_SERVICE)
    >>> before = tuple(each.categories[0] if each.categories else numbers[each.dtype] for each in features)
    >>> after = apply_changes(CORE_SERVICE, before, {"tech_support": "Yes", "online_backup": "Yes"})
    >>> [(each.feature, each.after) for each in differences(CORE_SERVICE, before, after) if each.derived]
    [('protection_count', 2)]
    """
    after = by_name(features_of(service), values)
    if unknown := changes.keys() - after.keys():
        raise KeyError(*sorted(unknown))
    after |= changes
    for derivation in _touched(service, changes):
        after |= derivation.of(after)
    return tuple(after.values())


def differences(service: str, before: Sequence[Any], after: Sequence[Any]) -> tuple[ChangedValue, ...]:
    """Return where two states of a customer, (k,) each, differ, in the contract's order."""
    rows = zip(features_of(service), before, after, strict=True)
    return tuple(ChangedValue(feature.name, old, new, feature.derived) for feature, old, new in rows if old != new)


def lever_candidates(levers: Levers, rows: Sequence[Sequence[Any]], vectors: Vectors) -> LeverCandidates:
    """Return n customers, at least one, with each lever applied that can be offered to them.

    Parameters
    ----------
    levers
        What can be offered.
    rows
        The customers' values.
    vectors
        (n, f) the same, encoded as feature_repo.stores.vectors does; not changed.
    """
    plan_of = _planner(levers).of
    plans = [plan_of(row) for row in rows]
    counts = [len(plan.levers) for plan in plans]
    tried = np.repeat(vectors, counts, axis=0)
    if len(plans) == 1:
        places = plans[0].rows
    else:
        firsts = np.cumsum([0, *counts[:-1]])
        places = np.concatenate([plan.rows + first for plan, first in zip(plans, firsts, strict=True)])
    columns = np.concatenate([plan.columns for plan in plans])
    tried[places, columns] = np.concatenate([plan.numbers for plan in plans])
    return LeverCandidates(tuple(plan.levers for plan in plans), tried)


def recommend(
    levers: Levers,
    rows: Sequence[Sequence[Any]],
    vectors: Vectors,
    own: Floats,
    score_vectors: Callable[[Vectors], Floats],
) -> list[Recommendation | None]:
    """Return the best lever of each of n customers, at least one; None if none lowers the score.

    Parameters
    ----------
    levers, rows, vectors
        As for :func:`lever_candidates`.
    own
        (n,) the scores of the customers as they are.
    score_vectors
        Returns the scores of vectors, as ``Bundle.score_vectors``; called once, unless no lever fits any customer.
    """
    tried = lever_candidates(levers, rows, vectors)
    if not len(tried.vectors):
        return [None] * len(rows)
    return tried.best(own, score_vectors(tried.vectors))


class _Plan(NamedTuple):
    """Lever candidates of one kind of customers: (c,) indices and numbers that differ from the customer."""

    levers: tuple[Lever, ...]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    numbers: Floats


class _Planner:
    """Caches plans: customers with the same values in all that levers and derivations read share one."""

    def __init__(self, levers: Levers) -> None:
        from feature_repo.stores.vectors import category_encoder

        self._levers = levers
        self._coders = [category_encoder(feature) for feature in levers.features]
        names = [feature.name for feature in levers.features]
        reads = {name for lever in levers.levers for name in lever.when}
        reads |= {
            name
            for lever in levers.levers
            for derivation in _touched(levers.service, lever.changes)
            for name in derivation.inputs
        }
        self._reads = tuple(place for place, name in enumerate(names) if name in reads)
        self._columns = {
            lever.name: [
                names.index(name)
                for name in itertools.chain(
                    lever.changes, *(each.outputs for each in _touched(levers.service, lever.changes))
                )
            ]
            for lever in levers.levers
        }
        self._plans: dict[tuple[Any, ...], _Plan] = {}

    def of(self, values: Sequence[Any]) -> _Plan:
        # A plan depends only on these values, hence the key holds nothing else.
        key = tuple(map(values.__getitem__, self._reads))
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            plan = self._plans[key] = self._plan(key)
        return plan

    def _plan(self, key: tuple[Any, ...]) -> _Plan:
        values: list[Any] = [None] * len(self._coders)
        for place, value in zip(self._reads, key, strict=True):
            values[place] = value
        options = self._levers.options(values)
        places, columns, numbers = [], [], []
        for row, lever in enumerate(options):
            after = apply_changes(self._levers.service, values, lever.changes)
            # Recomputed values are written even if unchanged: the key does not hold them.
            for column in self._columns[lever.name]:
                places.append(row)
                columns.append(column)
                numbers.append(self._coders[column](after[column]))
        return _Plan(options, np.array(places, np.intp), np.array(columns, np.intp), np.array(numbers, np.float64))


@functools.lru_cache(maxsize=8)  # the champion, a challenger, and the models before them
def _planner(levers: Levers) -> _Planner:
    return _Planner(levers)


@dataclass(frozen=True)
class _Derivation:
    """A function of feature_repo.transforms, with the names of its inputs and outputs."""

    compute: Callable[[Columns], dict[str, list[Any]]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return its features of one customer (name -> value)."""
        computed = self.compute({name: [values.get(name)] for name in self.inputs})
        return {name: computed[name][0] for name in self.outputs}


class _Request(dict[str, list[Any]]):
    """Columns that record which of them are read."""

    def __missing__(self, name: str) -> list[Any]:
        self[name] = [None]
        return self[name]


@functools.cache
def _derivations(service: str) -> tuple[_Derivation, ...]:
    """Return the derivations at read time from a service's stored features, except windows over events."""
    found = []
    for compute in (derive, milestones):
        asked = _Request()
        # A function computes the features of every version; a service has some of them, and may lack inputs of others.
        outputs = tuple(name for name in compute(asked) if name in SERVICES_OF[service])
        if outputs:
            found.append(_Derivation(compute, tuple(asked), outputs))
    return tuple(found)


def _touched(service: str, changes: Mapping[str, Value]) -> list[_Derivation]:
    return [derivation for derivation in _derivations(service) if changes.keys() & set(derivation.inputs)]


@functools.cache
def _names(service: str) -> dict[str, Feature]:
    features = features_of(service)
    return {feature.name: feature for feature in features} | {each.column: each for each in features if each.column}


def _read(feature: Feature, value: Any) -> Any:
    """Convert the extract's Yes and No to bool, and return every other value as it is."""
    return value == "Yes" if feature.dtype == "bool" and value in ("Yes", "No") else value


def _allowed(choice: Choice) -> str:
    span = choice.span
    if span is not None:
        return f"a number from {span.minimum:g} to {span.maximum:g} in steps of {span.step:g}"
    *others, last = map(quoted, choice.values)
    return f"{', '.join(others)} or {last}" if others else last


def _worth(lever: Lever, own: float, score: float) -> float:
    return lever.accept_share * (own - score)


def _best(levers: Sequence[Lever], own: float, left: Iterator[float]) -> Recommendation | None:
    best, most = None, 0.0
    for lever in levers:
        score = next(left)
        if (worth := _worth(lever, own, score)) > most:
            best, most = Recommendation(lever, score), worth
    return best
