"""What Prometheus may know: counts and times by route, method, status and error; never an id, never a raw path."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.values import ValueClass

from bentos.churn.schema import Answer
from configs.errors import ChurnError

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Meters:
    """The service's own metrics.

    BentoML's are switched off: their ``endpoint`` label is the raw path, which grows without bound and holds
    whatever a caller typed. Every label here is one of a fixed set.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
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

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answer; ``route`` is a template or "other", ``seconds`` a duration."""
        self.requests.labels(route, method if method in _METHODS else "other", str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def scored(self, found: Iterable[Answer | ChurnError]) -> None:
        """Count the customers that got an answer, each once."""
        answers = {each.customer_id: each for each in found if isinstance(each, Answer)}.values()
        churning = sum(each.label == "churn" for each in answers)
        for label, customers in (("churn", churning), ("stay", len(answers) - churning)):
            self.predictions.labels(label).inc(customers)
        self.explanation_failures.inc(sum(each.reasons is None for each in answers))

    def exposition(self, models: Iterable[ServedModel] = ()) -> bytes:
        """Return the metrics of all workers in Prometheus' text format, and which ``models`` this one serves."""
        return self._counted() + _info(models)

    def _counted(self) -> bytes:
        # Under `bentoml serve` each worker keeps its values in a file, and any worker answers for all of them.
        if ValueClass.__name__ == "MmapedValue":
            everyone = CollectorRegistry()
            MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
            return generate_latest(everyone)
        return generate_latest(self._registry)


@dataclass(frozen=True)
class ServedModel:
    """A model in service; ``role`` is champion or challenger, ``mode`` that of its trial (champion: none)."""

    role: str
    mode: str
    model_version: str
    digest: str


def _info(models: Iterable[ServedModel]) -> bytes:
    """Return one series a model of now. Not a metric of the registry: those keep every version they ever saw."""
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
