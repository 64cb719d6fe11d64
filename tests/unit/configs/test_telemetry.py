"""Switching off leaves an operator's own choice alone."""

from __future__ import annotations

from configs.telemetry import OFF, switch_off


def test_everything_is_off_by_default():
    environ: dict[str, str] = {}
    switch_off(environ)
    assert environ == OFF


def test_an_operators_choice_stays():
    environ = {"DO_NOT_TRACK": "0"}
    switch_off(environ)
    assert environ["DO_NOT_TRACK"] == "0"
