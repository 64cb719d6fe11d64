"""What Prometheus may know: counts and times by route, method, status and error; never an id, never a raw path."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import ValueClass

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

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answer; ``route`` is a template or "other", ``seconds`` a duration."""
        self.requests.labels(route, method if method in _METHODS else "other", str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def exposition(self) -> bytes:
        """Return the metrics of all workers in Prometheus' text format."""
        # Under `bentoml serve` each worker keeps its values in a file, and any worker answers for all of them.
        if ValueClass.__name__ == "MmapedValue":
            everyone = CollectorRegistry()
            MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
            return generate_latest(everyone)
        return generate_latest(self._registry)
