"""The blocking client. See docs/journeys/app-developer.md."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar

import httpx

from bentos.churn.api.schemas import Answer, Change, Metadata, PredictionAnswer, RefusedCustomer, WhatIfAnswer
from bentos.client import transport as rim
from bentos.client.endpoints import Endpoints
from bentos.client.retries import Clock, Failed, Outcome, Patience, Reply, Send, Steps, Wait

Result = TypeVar("Result")

BATCH_IDS_MAX: Final = 1000
"""Default of serving.batch_ids_max of the service."""
CONCURRENCY_MAX: Final = 16
"""Default number of calls of one client that are in progress at once: as many as keep a worker busy, and an eighth of
its ``serving.concurrency_max``. More make httpx slower: for each request its pool looks at every connection.
"""


class ChurnClient:
    """Calls the service and waits for its answer. A context manager; threads may share one.

    Any number of threads may call at once: calls beyond ``concurrency_max`` wait for a slot. Time-outs, retries and
    ``patience.total_s`` count from the moment a call has its slot, so a call does not fail because it waited for one.

    Parameters
    ----------
    base_url
        Base URL of the service: ``http://127.0.0.1:3000``, or with a path behind a reverse proxy.
    api_key
        Sent as a bearer token with each request, and shown nowhere.
    patience
        Time-outs and retries.
    batch_ids_max
        Most ids in one request of :meth:`predict_many`: at most the service's ``serving.batch_ids_max``.
    concurrency_max
        Most calls in progress at once, each on a connection of its own, retries and pauses included.
    transport
        How to connect, instead of over TCP with the system's certificates: a socket's path, a client certificate. Its
        pool must hold ``concurrency_max`` connections.
    sleep, clock, rng
        Functions that wait and return the time (seconds, monotonic), and the random generator of the pauses.

    Raises
    ------
    ValueError
        If the address or the key is unusable, or ``concurrency_max`` is below 1.

    Examples
    --------
    Here ``transport`` replaces the network; without it the client connects to ``base_url``.

    >>> import httpx
    >>> from bentos.client import ChurnClient, CustomerUnknownError
    >>> def service(request):
    ...     error = {"error": "customer_unknown", "message": "no features are known", "hint": "check the id"}
    ...     return httpx.Response(404, json=error)
    >>> with ChurnClient("http://127.0.0.1:3000", transport=httpx.MockTransport(service)) as client:
    ...     try:
    ...         answer = client.predict("7590-VHVEG")
    ...     except CustomerUnknownError as refused:
    ...         print(refused.status, refused.error, "-", refused.hint)
    404 customer_unknown - check the id

    An unusable address is refused before anything is sent:

    >>> ChurnClient("127.0.0.1:3000")
    Traceback (most recent call last):
        ...
    ValueError: base_url must begin with http:// or https:// and name a host
    """

    def __init__(  # noqa: PLR0913 - all but the first are keywords with defaults
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        patience: Patience | None = None,
        batch_ids_max: int = BATCH_IDS_MAX,
        concurrency_max: int = CONCURRENCY_MAX,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Clock = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._calls = Endpoints(patience or Patience(), batch_ids_max, clock, rng or random.SystemRandom())
        self._sleep = sleep
        self._http = httpx.Client(**rim.options(base_url, api_key, concurrency_max), transport=transport)
        self._slots = threading.Semaphore(concurrency_max)

    def predict(self, customer_id: str) -> Answer:
        """Return one customer's score with its reasons.

        Parameters
        ----------
        customer_id
            Id as in the extracts.

        Returns
        -------
        Answer
            Probability in [0, 1], label, reasons, and the lever worth most.

        Raises
        ------
        CustomerUnknownError, CustomerWithdrawnError
            If the customer is unknown, or has left.
        ChurnServiceError
            Another subclass of :mod:`bentos.client.errors`; so does every method.
        """
        return self._run(self._calls.predict(customer_id))

    def predict_many(self, customer_ids: Sequence[str]) -> list[Answer | RefusedCustomer]:
        """Return an entry for each id, in the order passed, twice for an id passed twice.

        More ids than ``batch_ids_max`` go in several requests; if one of them fails in the end, so does the call.

        Returns
        -------
        list of Answer or RefusedCustomer
            A RefusedCustomer states why that customer has no score; the others are not affected.

        Raises
        ------
        ChurnServiceError
            If a request fails after its retries.
        """
        return self._run(self._calls.predict_many(customer_ids))

    def what_if(self, customer_id: str, changes: Mapping[str, Change]) -> WhatIfAnswer:
        """Return the score as it is and as it would be with changes.

        Parameters
        ----------
        customer_id
            Id as in the extracts.
        changes
            Feature or column -> value. Without changes both scores are the same; the answer lists what may be changed.

        Raises
        ------
        RequestRefusedError
            If a change is not allowed for this customer.
        ChurnServiceError
            As :meth:`predict`.
        """
        return self._run(self._calls.what_if(customer_id, changes))

    def prediction(self, prediction_id: str) -> PredictionAnswer:
        """Return the receipt of a prediction, with the result of its replay.

        Raises
        ------
        RequestRefusedError
            If no receipt has this id.
        ChurnServiceError
            As :meth:`predict`.
        """
        return self._run(self._calls.prediction(prediction_id))

    def metadata(self) -> Metadata:
        """Return the version and provenance of the serving model."""
        return self._run(self._calls.metadata())

    def ready(self) -> bool:
        """Return whether a prediction would be answered now; one attempt, False if nothing listens."""
        return self._run(self._calls.ready())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, broken: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._http.base_url!r})"

    def _run(self, steps: Steps[Result]) -> Result:
        # The first step, which starts the clock of the call, is taken inside.
        with self._slots:
            return self._result(steps)

    def _result(self, steps: Steps[Result]) -> Result:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                result: Result = done.value
                return result
            if isinstance(step, Wait):
                self._sleep(step.seconds)
                outcome = None
            else:
                outcome = self._send(step)

    def _send(self, step: Send) -> Reply | Failed:
        try:
            with self._http.stream(**rim.arguments(step)) as response:
                pieces = []
                for piece in response.iter_bytes():
                    rim.refuse_late(step, self._calls.clock)
                    pieces.append(piece)
                return rim.reply(response, b"".join(pieces))
        except httpx.TransportError as broken:
            return rim.failed(broken)
