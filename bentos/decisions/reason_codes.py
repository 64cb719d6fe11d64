"""Reason codes: group a score's contributions into reasons for a retention agent.

Pure, except :func:`load_reason_codes`. See docs/decisions/0008-reasons.md.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from configs.errors import ChurnError
from configs.settings import CONFIG_DIR
from configs.text import decoded
from feature_repo.contract import BY_NAME, SERVICES_OF, YES_NO_INTERNET, Feature, features_of
from feature_repo.files.regular_files import read_regular

PATH: Final = CONFIG_DIR / "reason_codes.toml"
NONE_YET: Final = "none yet"
_TEXTS_MAX: Final = 8192
_RANKED_FROM: Final = 8
"""Number of customers from which on sorting all at once is faster than one by one."""
_SAMPLES: Final[dict[str, tuple[Any, ...]]] = {"bool": (True, False), "int64": (0, 7), "float64": (-1.5, 20.0)}

Direction = Literal["raises", "lowers"]


class ReasonDictionaryError(ChurnError):
    """configs/reason_codes.toml does not fit the feature service."""

    error = "reason_dictionary_invalid"
    http_status = 503


class ReasonCode(BaseModel):
    """One entry of the dictionary; see the head of configs/reason_codes.toml for each key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    features: Annotated[list[str], Field(min_length=1)]
    value_feature: str
    actionable: bool
    raises: str
    lowers: str
    raises_when: dict[str, str] = {}
    lowers_when: dict[str, str] = {}

    def text(self, direction: Direction, values: Mapping[str, Any]) -> str:
        """Return the sentence for these feature values (name -> bool, int, float, str or None)."""
        words = {name: _Word.of(values[name]) for name in self.features}
        value = words[self.value_feature]
        default, special = (self.raises, self.raises_when) if direction == "raises" else (self.lowers, self.lowers_when)
        return special.get(str(value), default).format(value=value, **words)


class Reason(NamedTuple):
    """One reason of a score.

    Parameters
    ----------
    code, text
        Stable name, and the sentence for the retention agent.
    direction
        Whether it *raises* or *lowers* the probability of churn.
    contribution
        What the reason adds to the margin (log-odds, signed).
    value
        The customer's value of the code's value feature, None where null.
    actionable
        Whether the retention agent can offer something that changes it.
    """

    code: str
    text: str
    direction: Direction
    contribution: float
    value: bool | int | float | str | None
    actionable: bool


@dataclass(frozen=True)
class ReasonDictionary:
    """The codes of one feature service.

    Parameters
    ----------
    features
        The k features of the service in contract order.
    codes
        Name -> code, g in all; each feature is under exactly one.
    contribution_min
        Reasons with a smaller contribution (log-odds, absolute) are not shown.

    Examples
    --------
    >>> from bentos.decisions.reason_codes import load_reason_codes
    >>> from feature_repo.contract import CORE_SERVICE, features_of
    >>> reasons = load_reason_codes(CORE_SERVICE)
    >>> numbers = {"bool": False, "int64": 1, "float64": 20.0}
    >>> values = [each.categories[0] if each.categories else numbers[each.dtype] for each in features_of(CORE_SERVICE)]
    >>> contributions = [0.0] * len(reasons.features)
    >>> contributions[reasons.features.index("contract_type")] = 1.2
    >>> [(each.code, each.direction) for each in reasons.reasons(contributions, values, leaves=True, most=3)]
    [('CONTRACT', 'raises')]
    """

    features: tuple[str, ...]
    codes: Mapping[str, ReasonCode]
    contribution_min: float

    @cached_property
    def _order(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The features' indices, code by code, and the start of each code's."""
        groups = [[self.features.index(name) for name in code.features] for code in self.codes.values()]
        starts = np.cumsum([0, *(len(group) for group in groups[:-1])])
        return np.array([place for group in groups for place in group], np.intp), np.asarray(starts, np.intp)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.codes)

    def sums(self, contributions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum the contributions (n, k) of the features under each code: (n, g), in the order of ``codes``.

        Nothing is dropped: base + the sum of all groups is the margin.
        """
        if contributions.shape[1:] != (len(self.features),):
            raise ValueError(f"{contributions.shape} contributions for {len(self.features)} features")
        order, starts = self._order
        return np.asarray(np.add.reduceat(contributions[:, order], starts, axis=1), dtype=np.float64)

    def grouped(self, contributions: Sequence[float] | np.ndarray) -> dict[str, float]:
        """Sum the contributions (k,) of the features under each code: code -> log-odds."""
        sums = self.sums(np.asarray(contributions, dtype=np.float64)[None])
        return dict(zip(self._names, sums[0].tolist(), strict=True))

    def reasons(
        self, contributions: Sequence[float] | np.ndarray, values: Sequence[Any], *, leaves: bool, most: int
    ) -> tuple[Reason, ...]:
        """Return at most ``most`` reasons of one customer; see :meth:`reasons_of`."""
        sums = self.sums(np.asarray(contributions, dtype=np.float64)[None])
        (found,) = self.reasons_of(sums, [values], [leaves], most=most)
        return found

    def reasons_of(
        self, sums: NDArray[np.float64], values: Sequence[Sequence[Any]], leaves: Sequence[bool], *, most: int
    ) -> list[tuple[Reason, ...]]:
        """Return at most ``most`` reasons for each customer, those that support the label first.

        Parameters
        ----------
        sums
            (n, g) log-odds, as :meth:`sums` returns them.
        values
            n times (k,) the customer's values in contract order, None where null.
        leaves
            n times whether the label is "churn".
        most
            How many reasons at most.

        Within each half the larger contribution comes first, ties by code. A list of churners is read to learn why each
        customer leaves, so strong reasons to stay must not displace those; reasons against the label follow where there
        is room. Reasons below ``contribution_min`` are left out.
        """
        if len(sums) < _RANKED_FROM:
            shown = [self._shown(row, leaving, most) for row, leaving in zip(sums.tolist(), leaves, strict=True)]
        else:
            shown = self._ranked(sums, np.asarray(leaves, np.bool_), most)
        # Texts are made only for the few reasons that are returned.
        return [
            tuple([self._reason(code, row[code], known) for code in codes])
            for codes, row, known in zip(shown, sums.tolist(), values, strict=True)
        ]

    def _reason(self, code: int, contribution: float, known: Sequence[Any]) -> Reason:
        name, own, shown, actionable = self._entries[code]
        direction: Direction = "raises" if contribution > 0 else "lowers"
        values = own(known)
        # Types too: as a cache key True equals 1 and 1.0, but their texts differ.
        text = self._text(name, direction, values, tuple(map(type, values)))
        return Reason(name, text, direction, contribution, known[shown], actionable)

    @cached_property
    def _entries(self) -> list[tuple[str, Callable[[Sequence[Any]], tuple[Any, ...]], int, bool]]:
        """Each code's name, getter of its features' values, index of the value feature, and actionable."""
        place = {name: index for index, name in enumerate(self.features)}
        return [
            (name, _taker([place[each] for each in code.features]), place[code.value_feature], code.actionable)
            for name, code in self.codes.items()
        ]

    @cached_property
    def _text(self) -> Callable[[str, Direction, tuple[Any, ...], tuple[type, ...]], str]:
        """The cached text of a code for its features' values and their types; many customers share one."""
        codes = self.codes  # not self: an object in a reference cycle is not freed when the model is replaced

        @lru_cache(maxsize=_TEXTS_MAX)
        def text(name: str, direction: Direction, values: tuple[Any, ...], _types: tuple[type, ...]) -> str:
            code = codes[name]
            return code.text(direction, dict(zip(code.features, values, strict=True)))

        return text

    def _shown(self, row: Sequence[float], leaves: bool, most: int) -> list[int]:  # noqa: FBT001 - private
        """Return the indices of the codes to show one customer, in order: see :meth:`reasons_of`."""
        found = [
            ((each > 0) != leaves, -abs(each), name, code)
            for code, (name, each) in enumerate(zip(self._names, row, strict=True))
            if abs(each) >= self.contribution_min
        ]
        found.sort()
        return [code for _, _, _, code in found[:most]]

    def _ranked(self, sums: NDArray[np.float64], leaves: NDArray[np.bool_], most: int) -> list[list[int]]:
        """Return what :meth:`_shown` does for each of n customers, vectorised: faster for more than a few."""
        against = (sums > 0) != leaves[:, None]
        sizes = np.abs(sums)
        small = sizes < self.contribution_min
        order = np.lexsort((np.broadcast_to(self._by_name, sums.shape), -sizes, against, small), axis=-1)
        kept = np.minimum(sums.shape[1] - small.sum(axis=1), most)
        return [codes[:count] for codes, count in zip(order[:, :most].tolist(), kept.tolist(), strict=True)]

    @cached_property
    def _by_name(self) -> NDArray[np.intp]:
        """The rank of each code by name."""
        return np.argsort(np.argsort(np.array(self._names, dtype=object)))

    def ranked(self, contributions: np.ndarray, leaves: np.ndarray, *, most: int) -> list[list[str]]:
        """Return the codes of :meth:`reasons`, in its order, for many customers at once: no texts are made.

        Parameters
        ----------
        contributions
            (n, k) log-odds.
        leaves
            (n,) bool, whether each label is "churn".
        most
            How many codes at most.
        """
        ranked = self._ranked(self.sums(contributions), leaves, most)
        return [[self._names[code] for code in codes] for codes in ranked]


def _taker(places: list[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return a getter of the values at these indices, always as a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    (only,) = places
    return lambda known: (known[only],)


def load_reason_codes(service: str, path: Path = PATH) -> ReasonDictionary:
    """Read a dictionary file and check it; raises what :func:`parse_reason_codes` raises."""
    try:
        text = decoded(read_regular(path))
    except (OSError, UnicodeDecodeError) as broken:
        raise ReasonDictionaryError(f"{path.name} can't be read ({type(broken).__name__})", _HINT) from broken
    return parse_reason_codes(text, service)


def parse_reason_codes(text: str, service: str, *, stored: bool = False) -> ReasonDictionary:
    """Read a dictionary (TOML) and check it against the contract.

    One file serves all services and their versions: what it says about features of other services is left out.
    ``stored``: the dictionary of a bundle, whose other services this code may no longer have.

    Raises
    ------
    ReasonDictionaryError
        If it is not such TOML, a feature of ``service`` is listed under no code or two, a code names a feature that
        the service does not have (a protected one above all), or a text has a placeholder that its code does not have.
    """
    try:
        content = tomllib.loads(text)
        contribution_min = float(content["contribution_min_log_odds"])
        codes = {name: ReasonCode.model_validate(entry) for name, entry in content["codes"].items()}
    except ValidationError as broken:
        detail = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in broken.errors())
        raise ReasonDictionaryError(f"the reason dictionary is invalid: {detail}", _HINT) from broken
    except (ValueError, KeyError, TypeError, AttributeError) as broken:
        raise ReasonDictionaryError(f"the reason dictionary can't be read: {broken}", _HINT) from broken
    features = features_of(service)
    codes = {name: own for name, code in codes.items() if (own := _of_service(code, service, stored=stored)).features}
    faults = list(_faults(codes, {feature.name: feature for feature in features}))
    if faults:
        raise ReasonDictionaryError(f"the reason dictionary does not fit {service}: {'; '.join(faults)}", _HINT)
    return ReasonDictionary(tuple(feature.name for feature in features), codes, contribution_min)


def _of_service(code: ReasonCode, service: str, *, stored: bool) -> ReasonCode:
    """Return a code without the features of other services; a protected or unknown one stays, and is refused."""
    others = {name for names in SERVICES_OF.values() for name in names if not BY_NAME[name].protected}
    others -= set(SERVICES_OF[service])
    left = [name for name in code.features if not (name in others or (stored and name not in BY_NAME))]
    return code.model_copy(update={"features": left})


_HINT: Final = "each feature of the service belongs under exactly one code of configs/reason_codes.toml"


def _faults(codes: Mapping[str, ReasonCode], features: Mapping[str, Feature]) -> Iterator[str]:
    named = [name for code in codes.values() for name in code.features]
    # A protected attribute is never a feature of a service that a model reads, so it is refused here as well.
    yield from (f"{name} is no feature of the service" for name in sorted(set(named) - features.keys()))
    yield from (f"{name} stands under {named.count(name)} codes" for name in features if named.count(name) != 1)
    for name, code in codes.items():
        if code.value_feature not in code.features:
            yield f"{name}: value_feature {code.value_feature} is not among its features"
        elif set(code.features) <= features.keys():
            yield from _text_faults(name, code, features)


def _text_faults(name: str, code: ReasonCode, features: Mapping[str, Feature]) -> Iterator[str]:
    shown = features[code.value_feature]
    possible = {str(_Word.of(value)) for value in _domain(shown)}
    if shown.dtype in {"bool", "string"}:
        unknown = sorted(({*code.raises_when, *code.lowers_when}) - possible)
        yield from (f"{name}: {shown.name} is never {value!r}" for value in unknown)
    texts = [code.raises, code.lowers, *code.raises_when.values(), *code.lowers_when.values()]
    for position in (0, -1):
        words = {each: _Word.of(_domain(features[each])[position]) for each in code.features}
        for text in texts:
            try:
                text.format(value=words[code.value_feature], **words)
            except (KeyError, ValueError, IndexError) as broken:
                yield f"{name}: the text {text!r} can't be filled in ({type(broken).__name__} {broken})"
                return


def _domain(feature: Feature) -> tuple[Any, ...]:
    """Values to test texts with: all of a closed domain, two of an open one, and null where it may be."""
    return (feature.categories or _SAMPLES[feature.dtype]) + ((None,) if feature.nullable else ())


class _Word(str):
    """A value that is written as a word in any number format of a text: "yes", "no", "none yet", or a choice of two.

    A format of two words, ``{streaming_tv:with|without}``, selects the first for yes and the second for no.
    """

    __slots__ = ()

    @classmethod
    def of(cls, value: Any) -> Any:
        """Return the word for None, bool, and the extract's Yes and No; any other value as it is."""
        if value is None:
            return cls(NONE_YET)
        if isinstance(value, bool):
            return cls("yes" if value else "no")
        return cls(value) if value in _YES_NO else value

    def __format__(self, chosen: str) -> str:
        if self == NONE_YET or "|" not in chosen:
            return str(self)
        yes, no = chosen.split("|")
        return yes if self in _YES else no


_YES: Final = ("yes", "Yes")
_YES_NO: Final = frozenset({*YES_NO_INTERNET, "No phone service"})
