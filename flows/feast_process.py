"""`python -m flows.feast_process …` runs `feast …` in a process that SIGHUP ends."""

from __future__ import annotations

import signal


def main() -> None:
    """Run Feast's command line on the arguments of this process."""
    from feast.cli.cli import cli
    from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]  # none are published

    # Feast's server would restart its workers on SIGHUP and never end.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup
        Arbiter.handle_hup = lambda _arbiter: None
    else:
        Arbiter.handle_hup = Arbiter.handle_term
    cli(prog_name="feast")


if __name__ == "__main__":
    main()
