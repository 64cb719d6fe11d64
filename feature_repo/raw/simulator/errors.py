"""Error class of the simulator."""

from __future__ import annotations

from configs.errors import EXIT_USAGE, ChurnError


class SimulationError(ChurnError):
    """An argument is out of range, the folder is not empty, or it holds no world of this version."""

    error = "simulation_refused"
    exit_code = EXIT_USAGE
