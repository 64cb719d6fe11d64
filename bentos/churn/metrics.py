"""Prometheus metrics: counts and durations by route, method, status and error.

No label ever holds an id or a raw path.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.values import ValueClass

from bentos.prediction.prediction import Prediction
from bentos.prediction.predictor import Stage
from configs.errors import ChurnError
from feature_repo.files.regular_files import identity

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_SHARES = tuple(edge / 20 for edge in range(1, 20))
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


_SHARED: Final = ValueClass.__name__ == "MmapedValue"
"""Whether workers keep their values in files of one folder."""


class MetricsLostError(ChurnError):
    """The folder in which workers keep their values was removed or replaced."""

    error = "metrics_lost"
    http_status = 503

    def __init__(self) -> None:
        super().__init__(
            "the folder of the metrics was removed or replaced while the service runs",
            "restart the service: what is counted since is in files that are gone",
        )


class ServiceMetrics:
    """The service's own metrics.

    BentoML's are switched off: their ``endpoint`` label is the raw path, which grows without bound and holds
    arbitrary text of callers. Every label here is one of a fixed set.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        if _SHARED:
            collector = MultiProcessCollector(CollectorRegistry())  # type: ignore[no-untyped-call]
            self._folder = Path(collector._path)  # noqa: SLF001 - the folder that the library itself reads
            self._files = identity(self._folder)
        self.requests = Counter(
            "churn_requests", "Answers sent", ["route", "method", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "churn_request_seconds",
            "Seconds from the request's head to its answer",
            ["route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.refusals = Counter(
            "churn_refusals", "Refusals by error, batch entries included", ["error"], registry=self._registry
        )
        self.key_failures = Counter(
            "churn_key_failures",
            "Requests without a key that may: missing, unknown, expired, revoked, forbidden",
            ["reason"],
            registry=self._registry,
        )
        self.key_file_failures = Counter(
            "churn_key_file_failures", "Times that a worker found the key file unusable", registry=self._registry
        )
        self.key_audit = Counter(
            "churn_key_audit",
            "Entries of refused keys written; writes failed, or refused because the audit is broken, and tried again; "
            "refused requests lost, because they could not be written before the worker ended",
            ["outcome"],
            registry=self._registry,
        )
        self.explanation_failures = Counter(
            "churn_explanation_failures", "Customers answered without reasons", registry=self._registry
        )
        self.predictions = Counter(
            "churn_predictions", "Customers scored, by label", ["label"], registry=self._registry
        )

        self.swaps = Counter(
            "churn_model_swaps",
            "What workers did when another model was to serve: swapped, refused",
            ["outcome"],
            registry=self._registry,
        )
        self.trials = Counter(
            "churn_trial_customers",
            "Customers of shadows and canaries: answered, failed, dropped",
            ["mode", "model", "outcome"],
            registry=self._registry,
        )
        self.aborts = Counter(
            "churn_trial_aborts", "Canaries that the service ended by itself", registry=self._registry
        )
        self._stage_seconds = Histogram(
            "churn_stage_seconds",
            "Seconds of a stage of answers given together: features (read), score (with contributions), explain",
            ["stage"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._stages = {stage: self._stage_seconds.labels(stage) for stage in get_args(Stage)}
        self._score = Histogram("churn_score", "Probabilities given", buckets=_SHARES, registry=self._registry)
        self.views = Counter(
            "churn_feature_views", "Views of scored customers by status", ["view", "status"], registry=self._registry
        )
        self.missing = Counter(
            "churn_features_missing", "Scored customers without a feature", ["feature"], registry=self._registry
        )
        self.quality = Counter("churn_score_quality", "Scores by quality", ["quality"], registry=self._registry)
        self.reasons = Counter("churn_reasons", "Reasons given", ["code", "direction"], registry=self._registry)
        self._receipts = Counter(
            "churn_receipts",
            "Receipts written, receipts dropped, and writes that failed and are tried again",
            ["outcome"],
            registry=self._registry,
        )
        self.receipts_waiting = Gauge(
            "churn_receipts_waiting",
            "Receipts that wait to be written",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._counters = {
            "label": self.predictions,
            "quality": self.quality,
            "view": self.views,
            "missing": self.missing,
            "reason": self.reasons,
        }
        # Children are cached: looking a label up costs more than counting.
        self._children: dict[tuple[str, ...], Counter] = {}
        self._answers: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answer; ``route`` is a template or "other", ``seconds`` a duration."""
        counters = self._answers.get((route, method, status))
        if counters is None:
            known = method if method in _METHODS else "other"
            counters = self.requests.labels(route, known, str(status)), self.seconds.labels(route)
            if known == method:
                # Bounded: our routes, their methods, their statuses.
                self._answers[route, method, status] = counters
        counters[0].inc()
        counters[1].observe(seconds)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Record how many seconds a stage of a batch took."""
        self._stages[stage].observe(seconds)

    def observe_predictions(self, answers: Sequence[Prediction]) -> None:
        """Count predicted customers; one that is requested twice counts twice."""
        counts: dict[tuple[str, ...], int] = {}
        read: dict[int, list[Any]] = {}
        for each in answers:
            row, reasons = each.row, each.reasons
            for key in (("label", each.label), ("quality", row.quality)):
                counts[key] = counts.get(key, 0) + 1
            # Most customers of a batch share one tuple of views: each is counted once, times its customers.
            read.setdefault(id(row.views), [row.views, 0])[1] += 1
            for name in row.absent:
                counts["missing", name] = counts.get(("missing", name), 0) + 1
            if reasons is None:
                self.explanation_failures.inc()
                continue
            for reason in reasons:
                given = ("reason", reason.code, reason.direction)
                counts[given] = counts.get(given, 0) + 1
        for views, customers in read.values():
            for view in views:
                status = ("view", view.view, view.status)
                counts[status] = counts.get(status, 0) + customers
        self._observe([each.probability for each in answers])
        for counted, customers in counts.items():
            child = self._children.get(counted)
            if child is None:
                kind, *labels = counted
                child = self._children[counted] = self._counters[kind].labels(*labels)
            child.inc(customers)

    def _observe(self, scores: Sequence[float]) -> None:
        """Add scores to their histogram: what ``observe`` does with each, with one addition per bucket."""
        histogram = self._score
        histogram._sum.inc(sum(scores))  # noqa: SLF001 - the library has no way to add many at once
        for bucket, customers in Tally([bisect_left(_SHARES, score) for score in scores]).items():
            histogram._buckets[bucket].inc(customers)  # noqa: SLF001

    def observe_receipts(self, outcome: str, receipts: int, waiting: int) -> None:
        """Count receipts written or dropped, or failed writes, and set the number that is pending now."""
        self._receipts.labels(outcome).inc(receipts)
        self.receipts_waiting.set(waiting)

    def exposition(self, models: Iterable[ServedModel] = ()) -> bytes:
        """Return the metrics of all workers in Prometheus' text format.

        ``models`` are those that this worker serves.
        """
        return self._counted() + _info(models)

    def _counted(self) -> bytes:
        # Under `bentoml serve` each worker keeps its values in a file, and any worker reports all of them.
        if _SHARED:
            if identity(self._folder) != self._files:
                raise MetricsLostError
            everyone = CollectorRegistry()
            MultiProcessCollector(everyone, str(self._folder))  # type: ignore[no-untyped-call]
            _remove_dead_workers(self._folder)
            return generate_latest(everyone)
        return generate_latest(self._registry)


def _remove_dead_workers(folder: Path) -> None:
    """Remove the gauges of ended workers; their counters stay."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            file.unlink(missing_ok=True)


@dataclass(frozen=True)
class ServedModel:
    """A model in service; ``role`` is champion or challenger, ``mode`` that of its trial (champion: none)."""

    role: str
    mode: str
    model_version: str
    digest: str


def _info(models: Iterable[ServedModel]) -> bytes:
    """Return one series per current model; a metric of the registry would keep every version ever set."""
    family = GaugeMetricFamily(
        "churn_model_info",
        "Models that the answering worker serves",
        labels=["role", "mode", "model_version", "bundle"],
    )
    for each in models:
        family.add_metric([each.role, each.mode, each.model_version, each.digest[:12]], 1)
    registry = CollectorRegistry()
    registry.register(_Fixed(family))
    return generate_latest(registry)


class _Fixed(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]
