"""Retention levers, and the features that a what-if may change: checked reader of configs/levers.toml.

Pure, except :func:`load_levers`. A customer's values are (k,) in the contract's order of the service, None where null.
See docs/decisions/0028-levers.md.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bentos.decisions.feature_words import quoted, spoken
from bentos.decisions.reason_codes import ReasonDictionary, ReasonDictionaryError
from bentos.decisions.reason_codes import load_reason_codes as load_reasons
from configs.errors import ChurnError
from configs.settings import CONFIG_DIR
from configs.text import decoded
from feature_repo.contract import ADD_ONS, BY_NAME, SERVICES_OF, Feature, features_of
from feature_repo.files.regular_files import read_regular

PATH: Final = CONFIG_DIR / "levers.toml"
LEVERS_NOTE: Final = "Advice from a model of risk: only a controlled test shows whether the offer keeps the customer."
"""Note on how to read a recommended lever."""

Value = bool | int | float | str


class LeversError(ChurnError):
    """configs/levers.toml does not fit the feature service or its reason codes."""

    error = "levers_invalid"
    http_status = 503


class Span(BaseModel):
    """Numbers from ``minimum`` to ``maximum`` in steps of ``step``, in the feature's unit.

    Examples
    --------
    >>> from bentos.decisions.levers import Span
    >>> span = Span(minimum=18.0, maximum=120.0, step=0.05)
    >>> span.holds(29.85), span.holds(29.86), span.holds(float("nan"))
    (True, False, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    minimum: float
    maximum: float
    step: Annotated[float, Field(gt=0)]

    def holds(self, value: float) -> bool:
        """Return whether a number is in the span and on a step; NaN and infinity do not."""
        if not self.minimum <= value <= self.maximum:
            return False
        steps = (value - self.minimum) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-6)


@dataclass(frozen=True)
class Choice:
    """Allowed values of one actionable feature: ``values`` of a closed domain, else a number of ``span``."""

    feature: Feature
    values: tuple[Value, ...]
    span: Span | None

    def takes(self, value: Any) -> bool:
        """Return whether a value is of the feature's type and allowed; True is not 1, and 1.0 not an integer."""
        if self.span is None:
            return any(type(value) is type(each) and value == each for each in self.values)
        kinds = (int,) if self.feature.dtype == "int64" else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and self.span.holds(value)


@dataclass(frozen=True)
class Lever:
    """One offer; see the head of configs/levers.toml for each part."""

    name: str
    code: str
    text: str
    when: Mapping[str, tuple[Value, ...]]
    changes: Mapping[str, Value]
    accept_share: float

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Return whether it can be offered to a customer with these values (name -> value)."""
        return all(values[name] in allowed for name, allowed in self.when.items())


@dataclass(frozen=True)
class Actionable:
    """Allowed values of one customer's feature in a what-if, all else unchanged.

    Parameters
    ----------
    feature, column
        Its name, and its column in the extract.
    value
        The customer's own value.
    allowed
        The values of a closed domain in the contract's order, including the customer's own if it is allowed; None for a
        number.
    minimum, maximum, step
        The range of a number; None for a closed domain.
    """

    feature: str
    column: str
    value: Any
    allowed: tuple[Value, ...] | None
    minimum: float | None
    maximum: float | None
    step: float | None


@dataclass(frozen=True, eq=False)
class Levers:
    """The choices and levers of one feature service, in the order of the file. Compared by identity."""

    service: str
    features: tuple[Feature, ...]
    choices: Mapping[str, Choice]
    levers: tuple[Lever, ...]

    def actionable(self, values: Sequence[Any]) -> tuple[Actionable, ...]:
        """Return the features that may be changed for a customer; those with no other value are left out."""
        own = by_name(self.features, values)
        return tuple(found for choice in self.choices.values() if (found := _actionable(choice, own)))

    def options(self, values: Sequence[Any]) -> tuple[Lever, ...]:
        """Return the levers that can be offered to a customer."""
        own = by_name(self.features, values)
        return tuple(lever for lever in self.levers if lever.fits(own))


def by_name(features: Sequence[Feature], values: Sequence[Any]) -> dict[str, Any]:
    """Return a customer's values by name. Raises ValueError unless there is one per feature."""
    return {feature.name: value for feature, value in zip(features, values, strict=True)}


def contradictions(values: Mapping[str, Any], touched: Collection[str]) -> list[str]:
    """Return the rules about ``touched`` features that ``values`` (name -> value) break, in words."""
    return [rule.words for rule in _RULES if {rule.feature, rule.of} & set(touched) and rule.broken(values)]


def load_levers(service: str, reasons: ReasonDictionary, path: Path = PATH, *, partial: bool = False) -> Levers:
    """Read a file of levers and check it; ``partial`` and errors as in :func:`parse_levers`.

    Examples
    --------
    >>> from bentos.decisions.levers import load_levers
    >>> from bentos.decisions.reason_codes import load_reason_codes
    >>> from feature_repo.contract import CORE_SERVICE
    >>> levers = load_levers(CORE_SERVICE, load_reason_codes(CORE_SERVICE))
    >>> levers.levers[0].name, dict(levers.levers[0].changes)
    ('TWO_YEAR_CONTRACT', {'contract_type': 'Two year'})
    """
    try:
        text = decoded(read_regular(path))
    except (OSError, UnicodeDecodeError) as broken:
        raise LeversError(f"{path.name} can't be read ({type(broken).__name__})", _HINT) from broken
    return parse_levers(text, service, reasons, partial=partial)


def changeable(path: Path = PATH) -> dict[str, Choice]:
    """Return the features that may be changed in a what-if, feature -> choice, over all feature services.

    A service that the file or the reason codes do not fit adds nothing: loading a model for it raises the error.
    """
    found: dict[str, Choice] = {}
    for service in SERVICES_OF:
        with contextlib.suppress(LeversError, ReasonDictionaryError):
            found |= load_levers(service, load_reasons(service), path).choices
    return found


def parse_levers(text: str, service: str, reasons: ReasonDictionary, *, partial: bool = False) -> Levers:
    """Read levers (TOML) and check them against the contract and the reason codes of the same service.

    ``partial``: choices and levers that do not fit are left out instead of refused, for an older version of a service.

    Raises
    ------
    LeversError
        If it is not such TOML; a feature is not stored for ``service`` (protected and derived ones never are), or its
        reason code is not actionable; a value is outside its domain; a lever's code is unknown, not actionable or
        about something else; or a lever would change nothing, or lead to values that the contract rules out.
    """
    try:
        file = _File.model_validate(tomllib.loads(text))
    except ValidationError as broken:
        detail = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in broken.errors())
        raise LeversError(f"the levers are invalid: {detail}", _HINT) from broken
    except ValueError as broken:
        raise LeversError(f"the levers can't be read: {broken}", _HINT) from broken
    features = features_of(service)
    stored = {feature.name: feature for feature in features if not feature.derived and not feature.protected}
    faults: list[str] = []
    choices: dict[str, Choice] = {}
    for name, asked in file.actionable.items():
        if found := list(_choice_faults(name, asked, stored, reasons)):
            faults += found
        else:
            choices[name] = _choice(stored[name], asked)
    levers: list[Lever] = []
    for name, entry in file.levers.items() if partial or not faults else ():
        when = {each: tuple(of) for each, of in entry.when.items()}
        lever = Lever(name, entry.code, entry.text, when, entry.changes, entry.accept_share)
        if found := list(_lever_faults(lever, choices, stored, reasons)):
            faults += found
        else:
            levers.append(lever)
    if faults and not partial:
        raise LeversError(f"the levers do not fit {service}: {'; '.join(faults)}", _HINT)
    return Levers(service, features, choices, tuple(levers))


_HINT: Final = "correct configs/levers.toml: its head says what each key means"


class _Lever(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    code: str
    text: Annotated[str, Field(min_length=1)]
    when: dict[str, Annotated[list[Value], Field(min_length=1)]]
    changes: Annotated[dict[str, Value], Field(min_length=1)]
    accept_share: Annotated[float, Field(gt=0, le=1)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    actionable: dict[str, Literal["any"] | list[Value] | Span]
    levers: dict[str, _Lever] = {}


@dataclass(frozen=True)
class _Exactly:
    """``feature`` is ``word`` exactly where ``of`` is ``value``; the quality gate checks every extract."""

    feature: str
    word: str
    of: str
    value: Value

    def broken(self, values: Mapping[str, Any]) -> bool:
        return bool((values[self.feature] == self.word) != (values[self.of] == self.value))

    def __str__(self) -> str:
        value = "no" if self.value is False else repr(self.value)
        return f"{self.feature} is {self.word!r} exactly where {self.of} is {value}"

    @property
    def words(self) -> str:
        """The rule in the words of a person."""
        return (
            f"{spoken(self.feature)} is {quoted(self.word)} for customers without {spoken(self.of)}, and only for them"
        )


_RULES: Final = (
    *(_Exactly(name, "No internet service", "internet_service", "No") for name in ADD_ONS),
    _Exactly("multiple_lines", "No phone service", "phone_service", value=False),
)


def _domain(feature: Feature) -> tuple[Value, ...]:
    """Return all values of a closed domain, none of an open one."""
    return (False, True) if feature.dtype == "bool" else feature.categories


def _choice(feature: Feature, asked: str | list[Value] | Span) -> Choice:
    if isinstance(asked, Span):
        return Choice(feature, (), asked)
    wanted = _domain(feature) if asked == "any" else asked
    return Choice(feature, tuple(each for each in _domain(feature) if each in wanted), None)


def _choice_faults(
    name: str, asked: str | list[Value] | Span, stored: Mapping[str, Feature], reasons: ReasonDictionary
) -> Iterator[str]:
    if name not in stored:
        yield f"{name} is no stored feature of the service"
        return
    code = next(code for code, entry in reasons.codes.items() if name in entry.features)
    if not reasons.codes[code].actionable:
        yield f"{name} speaks for {code}, which is not actionable"
    domain = _domain(stored[name])
    if isinstance(asked, Span) == bool(domain):
        needed = 'a list of values, or "any"' if domain else "a minimum, a maximum and a step"
        yield f"{name} needs {needed}"
    elif isinstance(asked, Span) and asked.minimum >= asked.maximum:
        yield f"{name}: the minimum is not below the maximum"
    elif isinstance(asked, list):
        yield from _outside(name, asked, domain)


def _outside(name: str, values: Sequence[Value], domain: Sequence[Value]) -> Iterator[str]:
    every = [(type(each), each) for each in domain]
    yield from (f"{name} is never {value!r}" for value in values if (type(value), value) not in every)


def _lever_faults(
    lever: Lever, choices: Mapping[str, Choice], stored: Mapping[str, Feature], reasons: ReasonDictionary
) -> Iterator[str]:
    code = reasons.codes.get(lever.code)
    if code is None or not code.actionable:
        yield f"{lever.name}: {lever.code} is no actionable reason code of the service"
    elif not lever.changes.keys() & set(code.features):
        yield f"{lever.name}: {lever.code} is not about {', '.join(lever.changes)}"
    faults = [*_when_faults(lever, stored), *_change_faults(lever, choices)]
    yield from (f"{lever.name}: {fault}" for fault in faults)
    if not faults:
        yield from (f"{lever.name} breaks a rule: {rule}" for rule in _RULES if _may_break(lever, rule))


def _when_faults(lever: Lever, stored: Mapping[str, Feature]) -> Iterator[str]:
    for name, values in lever.when.items():
        if name not in stored or not _domain(stored[name]):
            yield f"when can't ask for {name}"
        else:
            yield from _outside(name, values, _domain(stored[name]))


def _change_faults(lever: Lever, choices: Mapping[str, Choice]) -> Iterator[str]:
    for name, value in lever.changes.items():
        if name not in choices or not choices[name].takes(value):
            yield f"{name} = {value!r} is not under [actionable]"
        elif not lever.when.get(name) or value in lever.when[name]:
            yield f"when must say from which other values of {name}"


def _may_break(lever: Lever, rule: _Exactly) -> bool:
    """Return whether a customer who meets a rule and gets the lever may no longer meet it."""
    pair = (rule.feature, rule.of)
    if not lever.changes.keys() & set(pair):
        return False
    possible = (lever.when.get(name) or _domain(BY_NAME[name]) for name in pair)
    befores = (dict(zip(pair, each, strict=True)) for each in itertools.product(*possible))
    return any(rule.broken(before | dict(lever.changes)) for before in befores if not rule.broken(before))


def _actionable(choice: Choice, own: Mapping[str, Any]) -> Actionable | None:
    feature, span = choice.feature, choice.span
    value = own[feature.name]
    if span is not None:
        return Actionable(feature.name, feature.column, value, None, span.minimum, span.maximum, span.step)
    allowed = tuple(each for each in choice.values if not contradictions({**own, feature.name: each}, {feature.name}))
    if set(allowed) <= {value}:
        return None
    return Actionable(feature.name, feature.column, value, allowed, None, None, None)
