"""The serving runtime of a worker: model hot-reload, batching and prediction requests."""
