"""Error class of the simulator."""

from __future__ import annotations

from configs.errors import EXIT_USAGE, ChurnError


class SimulationRefused(ChurnError):  # noqa: N818 - read as a sentence: refused, simulation refused
    """An argument is out of range, the folder is not empty, or it holds no world of this version."""

    error = "simulation_refused"
    exit_code = EXIT_USAGE
