"""What is printed can be encoded, searched and read."""

import io
import os
import pty
import subprocess
import sys

import pytest

from flows.terminal import wrapped

PRINTS = "from flows.terminal import encode_everything, console; encode_everything(); console().print({!r})"


@pytest.mark.parametrize(
    ("encoding", "says"), [("ascii", "ok 0.5 +- 0.1 \\u8a9e"), ("latin-1", "ok 0.5 ± 0.1 \\u8a9e")]
)
def test_what_cannot_be_encoded_is_replaced(encoding, says):
    done = subprocess.run(
        [sys.executable, "-c", PRINTS.format("✓ 0.5 ± 0.1 語")],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode(encoding).strip() == says


def test_a_line_in_a_pipe_is_whole():
    line = "word " * 60
    done = subprocess.run(
        [sys.executable, "-c", PRINTS.format(line)],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == line.strip()
    assert wrapped(line, io.StringIO()) == line


def test_a_line_in_a_terminal_is_wrapped_between_words(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        told = wrapped("see the identifier churn_behavior_v1_of_a_long_name-here then", stream)
    os.close(ours)
    assert told.splitlines() == ["see the identifier", "  churn_behavior_v1_of_a_long_name-here", "  then"]
