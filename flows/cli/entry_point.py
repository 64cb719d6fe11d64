"""Entry point of `churn …`: signals, umask, exit codes, and one-line errors."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import click

from configs.errors import EXIT_USAGE, ChurnError
from configs.printable import printable
from configs.telemetry import switch_off
from flows.cli.commands import cli
from flows.terminal import encode_everything, wrapped


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error is printed in one line with its exit code, never as a traceback."""
    switch_off(os.environ)
    # Written files hold personal data: only this user gets access.
    os.umask(0o077)
    encode_everything()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one
            signal.signal(number, _terminated)
    sys.exit(_exit_code(lambda: cli.main(arguments, prog_name="churn", standalone_mode=False)))


def _terminated(number: int, _frame: FrameType | None) -> None:
    """Exit as on an interrupt: child processes are stopped and unfinished files removed."""
    signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
    click.echo("interrupted", err=True)
    sys.exit(128 + number)


def _exit_code(run: Callable[[], Any]) -> int:
    try:
        run()
    except ChurnError as refused:
        return _refused(refused)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (click.Abort, KeyboardInterrupt):
        # Another one would print a traceback in the middle of the exit.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        click.echo("interrupted", err=True)
        return 128 + signal.SIGINT
    except click.ClickException as misused:
        misused.show()
        return EXIT_USAGE
    except Exception as broken:  # noqa: BLE001 - whatever a library raises, a command ends in one line
        from flows.cli.unexpected_errors import unexpected

        return _refused(unexpected(broken))
    return 0


def _refused(refused: ChurnError) -> int:
    click.echo(wrapped(f"error: {printable(refused.message)}", sys.stderr), err=True)
    if refused.hint:
        click.echo(wrapped(f"hint: {printable(refused.hint)}", sys.stderr), err=True)
    return refused.exit_code
