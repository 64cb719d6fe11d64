"""What a command says of what it does not expect."""

from __future__ import annotations

import errno

import pytest

from flows.cli.commands import cli
from flows.cli.entry_point import _exit_code
from flows.cli.unexpected_errors import unexpected


def raised(error):
    def run():
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("customer 7590-VHVEG"), "unexpected ValueError at test_unexpected_errors.py:"),
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/journal.log"), "No space left on device: /x/journal.log"),
        (PermissionError(errno.EACCES, "Permission denied"), "the system refused it: Permission denied"),
        (KeyError("7590-VHVEG"), "unexpected KeyError"),
    ],
)
def test_it_is_one_line_without_the_text_of_the_error(capsys, error, says):
    assert _exit_code(raised(error)) == 1
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in told] == ["error", "hint"]
    assert says in told[0]
    assert "7590" not in "".join(told)


def test_an_interrupt_is_no_failure(capsys):
    assert _exit_code(raised(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_without_a_traceback_the_place_is_unknown():
    assert unexpected(ValueError()).message == "unexpected ValueError at an unknown place"


def test_debug_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("CHURN_SERVING__PORT", "none")
    assert _exit_code(lambda: cli.main(["--debug", "history"], standalone_mode=False)) != 0
    told = capsys.readouterr().err
    assert told.startswith("Traceback (most recent call last)")
    assert "error: " in told.splitlines()[-2] or "error: " in told.splitlines()[-1]
