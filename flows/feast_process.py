"""`python -m flows.feast_process …` is `feast …` in a process that a hang-up of its terminal ends."""

from __future__ import annotations

import signal


def main() -> None:
    """Run Feast's command line on the arguments of this process."""
    from feast.cli.cli import cli
    from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]  # none are published

    # Feast's server would take SIGHUP for the wish to start its workers anew, and stay for ever.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup
        Arbiter.handle_hup = lambda _arbiter: None
    else:
        Arbiter.handle_hup = Arbiter.handle_term
    cli(prog_name="feast")


if __name__ == "__main__":
    main()
