"""`python -m flows.bento_process …` runs `bentoml …` in a process that SIGINT ends, also while it is starting.

See docs/decisions/0039-interrupts.md.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Run BentoML's command line on the arguments of this process."""
    # Until the service installs its own handler nothing is served: there is nothing to drain.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    from bentoml_cli.cli import cli

    cli(prog_name="bentoml")


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.stderr.write("interrupted\n")
    sys.stderr.flush()
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
