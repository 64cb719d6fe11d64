"""Hot-reload the serving models: load and warm up in the background, then swap one reference.

Polls the roll-out pointer, starts, judges and ends trials. If loading fails, the current model keeps serving. See
docs/decisions/0018-pointer-and-ledger.md.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from bentos.churn.errors import HomeLostError, LoadingError, NotReadyError
from bentos.churn.metrics import ServedModel, ServiceMetrics
from bentos.churn.trials.canary import Canary, CanaryShare
from bentos.churn.trials.shadow import Shadow
from bentos.churn.trials.trial_counts import TrialCounter
from bentos.prediction.errors import internal
from bentos.prediction.model import ServingModel, load_model, warm_up
from bentos.prediction.prediction import Prediction
from bentos.prediction.predictor import StageObserver, ignore_stage, predict_customers
from bentos.rollout.live_comparison import LiveComparison, LiveCountsError, breach, read_live
from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.files.regular_files import identity

if TYPE_CHECKING:
    from bentos.rollout.pointer import Rollout

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Files = tuple[tuple[int, int] | None, ...]

_RETRY_S: Final = 1.0
_REFUSED_RETRY_S: Final = 5.0
"""Seconds between two attempts to load a rejected model: its folder or the store may have been restored."""


@dataclass(frozen=True)
class RejectedModel:
    """A model that can't be served: its digest (None: the pointer itself is unusable), and the error."""

    digest: str | None
    error: ChurnError

    def is_same(self, other: RejectedModel | None) -> bool:
        """Return whether digest and error are the same."""
        return other is not None and (self.digest, self.error.body()) == (other.digest, other.error.body())


@dataclass(frozen=True)
class ServingState:
    """The state that a request needs, immutable: taken at its start and used to its end, despite swaps."""

    rollout: Rollout
    champion: ServingModel
    trial: Shadow | Canary | None = None
    rejected: RejectedModel | None = None

    def predict(
        self,
        customer_ids: Sequence[str],
        now: datetime,
        *,
        reasons_max: int,
        observe_stage: StageObserver = ignore_stage,
    ) -> list[Prediction | ChurnError]:
        """Return one answer or refusal per id, in order. Raises StoreUnavailableError."""
        if self.trial is None:
            return predict_customers(
                self.champion, customer_ids, now, reasons_max=reasons_max, observe_stage=observe_stage
            )
        return self.trial.predict(self.champion, customer_ids, now, observe_stage=observe_stage)

    def model_of(self, customer_id: str) -> ServingModel:
        """Return the model that answers for a customer."""
        tried = isinstance(self.trial, Canary) and self.trial.takes(customer_id)
        return self.trial.challenger if self.trial is not None and tried else self.champion

    def models(self) -> list[ServedModel]:
        """Return the models for the metrics."""
        named = [("champion", "none", self.champion)]
        if self.trial is not None:
            named.append(("challenger", self.rollout.mode, self.trial.challenger))
        return [
            ServedModel(role, mode, model.bundle.manifest.model_version, model.bundle.digest)
            for role, mode, model in named
        ]

    def without_trial(self, refused: RejectedModel | None) -> ServingState:
        """Return the champion without a trial, with the model that can't be served."""
        return ServingState(self.rollout.without_trial(), self.champion, None, refused)


class ModelManager:
    """Holds the serving state.

    Until there is a champion each request may try to load it, at most once a second.
    """

    def __init__(self, settings: Settings, metrics: ServiceMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._serving: ServingState | None = None
        self._failure: ChurnError | None = None
        self._tried_at = 0.0
        self._halted = -1
        """Ledger sequence of a trial ended here that could not be ended in the ledger; -1 for none."""
        self._seen: Rollout | None = None
        self._retry_at = math.inf
        self._files: Files = ()
        self._gone: ChurnError | None = None
        """Why nothing can be served from a home that was restored or removed while the worker ran."""
        self._lock = threading.Lock()

    def current_or_none(self) -> ServingState | None:
        """Return the serving state, None if nothing is loaded yet, or the home is gone."""
        return self._serving if self._gone is None else None

    def current(self) -> ServingState:
        """Return the serving state, loading the champion if there is one by now.

        Raises
        ------
        NotReadyError
            With name, message and hint of the error that keeps the service from answering.
        """
        if self._gone is not None:
            raise NotReadyError(self._gone)
        if self._serving is not None:
            return self._serving
        # A request during the load of another one is refused with a retry hint: a queue would only time out.
        if not self._lock.acquire(blocking=False):
            raise NotReadyError(LoadingError("the champion model is being loaded", "repeat the request in a moment"))
        try:
            if self._serving is None:
                self._serving = self._first()
            return self._serving
        finally:
            self._lock.release()

    def refresh(self, now: datetime) -> None:
        """Follow the pointer, judge a canary, end a trial in time. For one thread of its own."""
        serving = self._serving
        if serving is None:
            try:
                self.current()
            except NotReadyError:
                return  # already logged
            return
        # First: writing the counts or the ledger would create a removed home again.
        if self._files_of_home() != self._files:
            self._reopen(serving, now)
            return
        self._gone = None
        if serving.trial is not None:
            serving.trial.save()
            self._judge(serving, now)
        self._follow(serving, now)

    def close(self) -> None:
        """End the trial's work in this worker, write its counts, and close the store's thread."""
        if self._serving is None:
            return
        if self._serving.trial is not None:
            self._serving.trial.close()
        self._serving.champion.features.close()

    def _first(self) -> ServingState:
        from bentos.rollout.pointer import Rollout
        from bentos.rollout.rollout import served_rollout

        if self._failure is not None and time.monotonic() - self._tried_at < _RETRY_S:
            raise NotReadyError(self._failure)
        before = self._files_of_home()
        loaded = _named(lambda: self._loaded(served_rollout(self._settings.home).champion, None, datetime.now(UTC)))
        if isinstance(loaded, ChurnError):
            # Errors of any library must not end the worker: it stays up, reports that it is not ready, and tries again.
            if self._failure is None or loaded.error != self._failure.error:
                log.warning("not ready: %s: %s; %s", loaded.error, loaded.message, loaded.hint)
            self._failure, self._tried_at = loaded, time.monotonic()
            raise NotReadyError(loaded)
        # Half a million objects of imported libraries will never be freed. Excluded from the garbage collection,
        # they no longer cost a pause of 100 ms and more in the middle of a request.
        gc.collect()
        gc.freeze()
        manifest = loaded.bundle.manifest
        log.warning("serving model %s, bundle %s", manifest.model_version, loaded.bundle.digest[:12])
        self._files = self._known(before)
        # A trial begins with the next poll.
        return ServingState(Rollout(loaded.bundle.digest, manifest.model_version), loaded)

    def _loaded(
        self, digest: str, current: ServingModel | None, now: datetime, *, store_needed: bool = False
    ) -> ServingModel:
        from bentos.bundle.manifest import bundles_folder

        model = load_model(self._settings, bundles_folder(self._settings.home) / digest, current)
        try:
            warm_up(model, now, store_needed=store_needed or current is not None)
        except BaseException:
            if current is None:
                model.features.close()
            raise
        return model

    def _files_of_home(self) -> Files:
        """Return the identities of the home and of the files held open, to detect that they were replaced."""
        feast = self._settings.feast
        open_files = {
            "registry.db": not feast.registry_url.get_secret_value(),
            "online.db": feast.online_store == "sqlite",
        }
        home = self._settings.home
        return identity(home), *(identity(home / "feast" / name) for name, ours in open_files.items() if ours)

    def _known(self, before: Files) -> Files:
        """Return the identities from before opening; a file that did not exist then was made by opening it."""
        return tuple(now if was is None else was for was, now in zip(before, self._files_of_home(), strict=True))

    def _reopen(self, serving: ServingState, now: datetime) -> None:
        """Load everything from a home that was restored or replaced; until then nothing is answered.

        Models in memory, and open files that are no longer in the home, belong to another state of it.
        """
        from bentos.rollout.pointer import Rollout
        from bentos.rollout.rollout import served_rollout

        before = self._files_of_home()
        loaded: ServingModel | ChurnError = HomeLostError()
        if None not in before:  # opening a SQLite file creates it
            loaded = _named(
                lambda: self._loaded(served_rollout(self._settings.home).champion, None, now, store_needed=True)
            )
        if isinstance(loaded, ChurnError):
            if self._gone is None or self._gone.body() != loaded.body():
                log.warning("not ready, the home was replaced: %s: %s; %s", *loaded.body().values())
            self._gone = loaded
            return
        manifest = loaded.bundle.manifest
        made = ServingState(Rollout(loaded.bundle.digest, manifest.model_version), loaded)
        self._swap(serving, made)
        # All earlier models read from one store, that of the earlier home.
        serving.champion.features.close()
        self._files, self._seen, self._gone = before, None, None
        self._follow(made, now)

    def _follow(self, serving: ServingState, now: datetime) -> None:
        from bentos.rollout.rollout import served_rollout

        wanted = _named(lambda: served_rollout(self._settings.home))
        if isinstance(wanted, ChurnError):
            # A worker that can't read the pointer can't see the end of a trial, so it must not continue one.
            self._seen = None
            self._swap(serving, serving.without_trial(RejectedModel(None, wanted)))
            return
        if wanted.has_expired(now) and wanted.sequence != self._halted:
            # The command that started it may be gone: a trial ends even without an operator.
            if self._end(wanted, now, f"its time was over at {wanted.ends_at}"):
                log.warning("%s ended: its time is over", wanted.mode)
            wanted = wanted.without_trial()
        if wanted == self._seen and time.monotonic() < self._retry_at:
            return
        made = self._made(serving, wanted, now)
        self._seen, self._retry_at = wanted, math.inf if made.rejected is None else time.monotonic() + _REFUSED_RETRY_S
        self._swap(serving, made)

    def _made(self, serving: ServingState, wanted: Rollout, now: datetime) -> ServingState:
        """Return the state for ``wanted``, with the models already loaded.

        A model that can't be served is left out and returned in ``refused``.
        """
        trial = serving.trial
        ready = {model.bundle.digest: model for model in (serving.champion, *([trial.challenger] if trial else []))}

        def model(digest: str) -> ServingModel | ChurnError:
            if digest in ready:
                return ready[digest]
            return _named(lambda: self._loaded(digest, serving.champion, now))

        champion = model(wanted.champion)
        if isinstance(champion, ChurnError):
            return serving.without_trial(RejectedModel(wanted.champion, champion))
        alone = ServingState(wanted, champion).without_trial(None)
        if wanted.challenger is None or wanted.sequence == self._halted:
            return alone
        if trial is not None and serving.rollout == wanted:
            return ServingState(wanted, champion, trial)
        challenger = model(wanted.challenger)
        if isinstance(challenger, ChurnError):
            return replace(alone, rejected=RejectedModel(wanted.challenger, challenger))
        return ServingState(wanted, champion, self._trial(wanted, challenger))

    def _trial(self, wanted: Rollout, challenger: ServingModel) -> Shadow | Canary:
        settings, counting = self._settings, TrialCounter(self._settings.home, wanted, self._metrics)
        reasons_max = settings.serving.reasons_max
        if wanted.mode == "shadow":
            return Shadow(challenger, counting, reasons_max=reasons_max, room=settings.rollout.queue_max)
        return Canary(
            challenger,
            counting,
            customers=CanaryShare(challenger.bundle.digest, wanted.share),
            reasons_max=reasons_max,
            limit_s=settings.serving.request_timeout_s / 2,
        )

    def _swap(self, serving: ServingState, made: ServingState) -> None:
        refused = made.rejected
        if refused is not None and not refused.is_same(serving.rejected):
            self._metrics.swaps.labels("refused").inc()
            log.warning(
                "refused %s: %s: %s; %s",
                f"bundle {refused.digest[:12]}" if refused.digest else "the pointer",
                *refused.error.body().values(),
            )
        if made.champion is not serving.champion:
            self._metrics.swaps.labels("swapped").inc()
            manifest = made.champion.bundle.manifest
            log.warning("serving model %s, bundle %s", manifest.model_version, made.champion.bundle.digest[:12])
        if made.rollout.sequence not in {0, serving.rollout.sequence}:
            log.warning("ledger entry %d is in force here", made.rollout.sequence)
        self._serving = made
        if serving.trial is not None and serving.trial is not made.trial:
            serving.trial.close()

    def _judge(self, serving: ServingState, now: datetime) -> None:
        """End a canary that fails too often or takes too long, for all workers."""
        trial, rollout = serving.trial, serving.rollout
        if not isinstance(trial, Canary):
            return
        counts = self._counts(trial, rollout)
        why = breach(counts, self._settings.rollout)
        if why is not None and self._end(rollout, now, why, counts):
            self._metrics.aborts.inc()
            log.warning("canary ended: %s", why)

    def _end(self, trial: Rollout, now: datetime, why: str, counts: LiveComparison | None = None) -> bool:
        """End a trial for all workers, by its counts (an abort) or time; return whether this call did it."""
        from bentos.rollout.rollout import stop_trial

        try:
            ended = stop_trial(
                self._settings.home,
                who="service",
                why=why,
                now=now,
                action="stop" if counts is None else "abort",
                trial=trial.sequence,
                details=asdict(counts.figures()) if counts else None,
            )
        except ChurnError as failure:
            log.error("the %s is ended in this worker alone: %s; %s", trial.mode, why, failure.message)  # noqa: TRY400
            self._halted, self._seen = trial.sequence, None
            return False
        return ended is not None

    def _counts(self, trial: Canary, rollout: Rollout) -> LiveComparison:
        """Return the counts of all workers; this worker's alone if theirs are unreadable or its own unsaved."""
        if trial.counting.written:
            with contextlib.suppress(LiveCountsError):
                return read_live(self._settings.home, str(rollout.challenger), since=rollout.sequence)
        return trial.counting.snapshot()


def _named(work: Callable[[], Result]) -> Result | ChurnError:
    """Return the result of ``work``, or the error that it raises as a ChurnError."""
    try:
        return work()
    except ChurnError as failure:
        return failure
    except Exception as broken:  # noqa: BLE001 - whatever a library raises, the current model keeps serving
        return internal(broken)
