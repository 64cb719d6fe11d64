"""Drift of features, scores and labels: PSI between held-out and current rows, in fixed bins. Pure.

The bins are made once, from the model's held-out rows, and kept: bins that follow the newest data would hide the drift.
Counts add up over chunks of customers, so that memory does not grow with their number.
See docs/decisions/0021-drift.md.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.base_rate import probability_bound
from bentos.psi import psi, psi_by_chance
from configs.settings import MonitoringSettings
from feature_repo.contract import LABEL, Feature

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Kind = Literal["feature", "score", "label"]
DriftStatus = Literal["stable", "drift", "insufficient data"]

SCORE: Final = "score"
DRIFT_FORMAT: Final = 2
"""Format number of a stored baseline. Format 1 counted all held-out rows, leavers of the declared extract too."""
_NULL, _OTHER = "null", "any other"
_BOOL: Final = ("False", "True")


@dataclass(frozen=True)
class FeatureBins:
    """The bins of one column: null first, then one per word and one for other words, or intervals.

    ``edges`` (numbers, ascending): a value is in the interval that ends with the first edge at or above it; there is
    one bin below the least and one above the greatest value at training. ``words`` (strings and booleans): the closed
    domain.

    Examples
    --------
    >>> import pandas as pd
    >>> from feature_repo.contract import BY_NAME
    >>> from monitoring.drift import FeatureBins
    >>> bins = FeatureBins.from_values(BY_NAME["contract_type"], pd.Series([], dtype="object"), 10)
    >>> dict(zip(bins.titles(), bins.count(pd.Series(["One year", None, "Weekly"])).tolist()))
    {'null': 1, 'Month-to-month': 0, 'One year': 1, 'Two year': 0, 'any other': 1}
    """

    name: str
    kind: Kind
    edges: tuple[float, ...] = ()
    words: tuple[str, ...] = ()

    @classmethod
    def from_values(cls, feature: Feature, values: pd.Series, count: int) -> Self:
        """Return a feature's bins; for a number about ``count`` intervals with equal shares of ``values``."""
        if feature.dtype in {"bool", "string"}:
            return cls(feature.name, "feature", words=feature.categories or _BOOL)
        return cls.of_numbers(feature.name, "feature", values.to_numpy(dtype=np.float64), count)

    @classmethod
    def of_numbers(cls, name: str, kind: Kind, values: Floats, count: int) -> Self:
        """Return about ``count`` intervals with equal shares of ``values`` (n,); fewer where values recur."""
        known = values[np.isfinite(values)]
        if not known.size:
            return cls(name, kind)
        # Edges are values that occurred: where most are 0, "0" is an interval of its own and nothing is split.
        inner = np.quantile(known, np.arange(1, count) / count, method="inverted_cdf")
        # Not below the least finite double: JSON has no infinity.
        below = max(math.nextafter(known.min(), -math.inf), -sys.float_info.max)
        return cls(name, kind, edges=tuple(np.unique([below, *inner, known.max()]).tolist()))

    def __len__(self) -> int:
        return 2 + len(self.edges) + len(self.words)

    def count(self, values: pd.Series | Floats) -> Counts:
        """Return how many of ``values`` (n,) fall into each bin, (b,)."""
        if self.words:
            column = pd.Series(values)
            place = pd.Index(self.words).get_indexer(pd.Index(column.astype(str))) + 1
            # get_indexer returns -1 for an unknown word, hence 0 here: it belongs in the last bin, only null in bin 0.
            place = np.where(column.isna(), 0, np.where(place == 0, len(self) - 1, place))
        else:
            numbers = np.asarray(values, dtype=np.float64)
            place = np.where(np.isnan(numbers), 0, 1 + np.searchsorted(self.edges, numbers, side="left"))
        return np.bincount(place, minlength=len(self)).astype(np.int64)

    def titles(self) -> list[str]:
        """Return a readable label per bin."""
        if self.words:
            return [_NULL, *self.words, _OTHER]
        if not self.edges:
            return [_NULL, "any number"]
        shown = [f"{edge:.6g}" for edge in self.edges]
        return [_NULL, "below", *(f"<= {edge}" for edge in shown[1:]), f"> {shown[-1]}"]


@dataclass(frozen=True)
class BaselineColumn:
    """Distribution of one column.

    Parameters
    ----------
    bins
        Its bins.
    counts
        The number of compared held-out rows in each.
    """

    bins: FeatureBins
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Baseline:
    """Distribution of the held-out rows of one model, the reference of the drift table.

    ``columns`` count the rows of the monitored population, see :func:`baseline`. ``bins`` is the requested number of
    bins; ``observed`` the newest instant (ISO 8601, UTC) of the rows; ``churned`` how many of ``rows`` left;
    ``log_loss`` the model's mean on them, in nats, ``log_loss_spread`` its standard deviation between rows.
    """

    digest: str
    contract_hash: str
    bins: int
    observed: str
    rows: int
    churned: int
    log_loss: float
    log_loss_spread: float
    columns: tuple[BaselineColumn, ...]
    format: int = DRIFT_FORMAT

    def to_json(self) -> str:
        """Return the baseline as JSON; it names no customer."""
        return json.dumps(asdict(self), sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        told: dict[str, Any] = json.loads(text)
        columns = tuple(
            BaselineColumn(
                FeatureBins(
                    **{**each["bins"], "edges": tuple(each["bins"]["edges"]), "words": tuple(each["bins"]["words"])}
                ),
                tuple(each["counts"]),
            )
            for each in told.pop("columns")
        )
        return cls(**told, columns=columns)


@dataclass
class BinCounts:
    """Current rows counted in a baseline's bins, added up over chunks.

    Parameters
    ----------
    counts
        Column -> (b,) rows per bin.
    rows, scored
        Rows seen, and how many of them were scored.

    Examples
    --------
    Two hundred customers of the same tenures as at training, and their scores twice as high:

    >>> import numpy as np, pandas as pd
    >>> from configs.settings import load_settings
    >>> from feature_repo.contract import BY_NAME
    >>> from monitoring.drift import BinCounts, compare_drift, make_baseline
    >>> spec = [BY_NAME["tenure_months"]]
    >>> features, score = pd.DataFrame({"tenure_months": np.arange(200) % 72 * 1.0}), np.linspace(0.05, 0.4, 200)
    >>> baseline = make_baseline(
    ...     features, spec, score, score > 0.3, present=np.ones(200, bool), digest="ab" * 32, contract_hash="cd" * 32,
    ...     observed="2026-01-01T00:00:00+00:00", bins=10,
    ... )
    >>> current = BinCounts.of(baseline)
    >>> current.add(baseline, features, 2 * score)
    >>> limits = load_settings().monitoring.model_copy(update={"rows_min": 100})
    >>> [(row.name, row.status) for row in compare_drift(baseline, current, None, limits)]
    [('tenure_months', 'stable'), ('score', 'drift'), ('churned', 'insufficient data')]
    """

    counts: dict[str, Counts]
    rows: int = 0
    scored: int = 0

    @classmethod
    def of(cls, baseline: Baseline) -> Self:
        """Return zero counts for every column of the baseline."""
        return cls({each.bins.name: np.zeros(len(each.bins), dtype=np.int64) for each in baseline.columns})

    def add(self, baseline: Baseline, features: pd.DataFrame, score: Floats) -> None:
        """Add a chunk: ``features`` (n, f) of present customers, ``score`` (m,) of those that can be scored."""
        for column in baseline.columns:
            values = score if column.bins.kind == "score" else features[column.bins.name]
            self.counts[column.bins.name] += column.bins.count(values)
        self.rows += len(features)
        self.scored += len(score)


@dataclass(frozen=True)
class DriftRow:
    """One row of the drift table.

    Parameters
    ----------
    name, kind
        Name of the feature, "score" or the label.
    psi, bound
        None where a side has no rows. ``bound`` is the greater of the setting and the PSI that two samples of these
        sizes show by chance.
    status
        Outcome of the comparison.
    reference_rows, current_rows
        Numbers of rows.
    moved
        The bin whose share changed most.
    """

    name: str
    kind: Kind
    psi: float | None
    bound: float | None
    status: DriftStatus
    reference_rows: int
    current_rows: int
    moved: str


def make_baseline(  # noqa: PLR0913 - what is measured, and what it is called
    features: pd.DataFrame,
    spec: Sequence[Feature],
    score: Floats,
    churned: NDArray[np.bool_],
    *,
    present: NDArray[np.bool_],
    digest: str,
    contract_hash: str,
    observed: str,
    bins: int,
) -> Baseline:
    """Return the baseline of a model's held-out rows.

    Parameters
    ----------
    features
        (n, f) the features ``spec`` as known then, n at least 1; types as ``typed.to_dataframe`` says.
    score
        (n,) the model's scores, in (0, 1).
    churned
        (n,) whether the customer left.
    present
        (n,) whether the row is of the monitored population: the customers that remain once their extract has
        withdrawn its leavers. Features and scores are counted on these rows only; the label and the log loss on all.
    digest, contract_hash, observed, bins
        See :class:`Baseline`.
    """
    watched = features[present]
    columns = [FeatureBins.from_values(feature, watched[feature.name], bins) for feature in spec]
    counts = [each.count(watched[each.name]) for each in columns]
    columns.append(FeatureBins.of_numbers(SCORE, "score", score[present], bins))
    counts.append(columns[-1].count(score[present]))
    loss = negative_log_likelihoods(churned, score)
    return Baseline(
        digest=digest,
        contract_hash=contract_hash,
        bins=bins,
        observed=observed,
        rows=len(features),
        churned=int(churned.sum()),
        log_loss=float(loss.mean()),
        log_loss_spread=float(loss.std()),
        columns=tuple(
            BaselineColumn(each, tuple(counted.tolist())) for each, counted in zip(columns, counts, strict=True)
        ),
    )


def negative_log_likelihoods(churned: NDArray[np.bool_], score: Floats) -> Floats:
    """Return each row's negative log-likelihood in nats, (n,); ``score`` (n,) in (0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from monitoring.drift import negative_log_likelihoods
    >>> negative_log_likelihoods(np.array([True, False]), np.array([0.5, 0.1])).round(3).tolist()
    [0.693, 0.105]
    """
    return np.asarray(-np.where(churned, np.log(score), np.log1p(-score)), dtype=np.float64)


def compare_drift(
    reference: Baseline,
    current: BinCounts,
    left: tuple[int, int] | None,
    limits: MonitoringSettings,
    *,
    unjudged: Collection[str] = (),
) -> list[DriftRow]:
    """Return the drift table: features in contract order, the score, the label.

    Parameters
    ----------
    reference, current
        Counts in the same bins.
    left
        (rows, churned) of newer labels, None if there are none yet.
    limits
        ``psi_max``, ``score_psi_max``, ``label_psi_max``, ``rows_min``, and ``false_alarm``: the probability
        that a table of equal populations shows any drift.
    unjudged
        Names of rows whose current values can't be judged: windows that end after the newest known event, and what is
        computed from them. Their status is "insufficient data", without figures.
    """
    # The PSI of a rate that changes by a factor is in proportion to the rate.
    label_psi_max = probability_bound(limits.label_psi_max, reference.churned / reference.rows)
    most = {"feature": limits.psi_max, "score": limits.score_psi_max, "label": label_psi_max}
    pairs = [(each.bins, each.counts, current.counts[each.bins.name]) for each in reference.columns]
    rows, churned = left or (0, 0)
    then = (reference.rows - reference.churned, reference.churned)
    pairs.append((FeatureBins(LABEL, "label", words=_BOOL), (0, *then, 0), np.array([0, rows - churned, churned, 0])))
    # Bonferroni: among forty rows, some row would exceed an uncorrected bound by chance now and then.
    each_alarm = limits.false_alarm / len(pairs)
    return [
        _insufficient(bins, before, now)
        if bins.name in unjudged
        else _row(bins, before, now, most[bins.kind], rows_min=limits.rows_min, false_alarm=each_alarm)
        for bins, before, now in pairs
    ]


def _insufficient(bins: FeatureBins, then: Sequence[int], current: Counts) -> DriftRow:
    return DriftRow(bins.name, bins.kind, None, None, "insufficient data", sum(then), int(current.sum()), "")


def _row(
    bins: FeatureBins, then: Sequence[int], current: Counts, setting: float, *, rows_min: int, false_alarm: float
) -> DriftRow:
    before = np.asarray(then, dtype=np.int64)
    n, m = int(before.sum()), int(current.sum())
    if not n or not m:
        return _insufficient(bins, then, current)
    found = psi(before, current)
    bound = max(setting, psi_by_chance(int(np.count_nonzero(before + current)), n, m, false_alarm))
    status: DriftStatus = "drift" if found > bound else "stable"
    if min(n, m) < rows_min:
        status = "insufficient data"
    most = int(np.argmax(np.abs(current / m - before / n)))
    moved = f"{bins.titles()[most]}: {before[most] / n:.1%} -> {current[most] / m:.1%}"
    return DriftRow(bins.name, bins.kind, found, bound, status, n, m, moved)
