"""Background thread that polls the model manager for changes of the roll-out."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Final

from bentos.churn.runtime.model_manager import ModelManager
from bentos.prediction.errors import internal

_STOP_S: Final = 10.0
"""How long a model that is being loaded may delay the shutdown; the thread never outlives the process."""


class ModelWatcher:
    """Polls the manager: at once, then every ``interval_s`` seconds, until it is stopped."""

    def __init__(self, models: ModelManager, interval_s: float) -> None:
        self._models = models
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="churn-watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, then the work of a trial."""
        self._ended.set()
        self._thread.join(_STOP_S)
        self._models.close()

    def _watch(self) -> None:
        failed = False
        while True:
            try:
                self._models.refresh(datetime.now(UTC))
                failed = False
            except Exception as broken:  # noqa: BLE001 - uncaught, it would end the thread and keep an old model
                if not failed:
                    internal(broken)
                failed = True
            if self._ended.wait(self._interval_s):
                return
