"""Nothing asks for the process's time zone: what ruff's DTZ rules do not see, and where they are switched off."""

from __future__ import annotations

import ast
import re

import pytest

from configs.settings import PROJECT_ROOT

PACKAGES = ("configs", "feature_repo", "bentos", "training", "monitoring", "flows")
LOCAL = {"feature_repo/stores/online_write/instants.py"}
"""Where Feast's local seconds are made and undone."""
LOCAL_CALLS = {"localtime", "mktime", "ctime", "asctime", "tzlocal", "utcfromtimestamp", "utcnow"}
LOCAL_SQL = re.compile(
    r"\b(current_date|current_time|current_timestamp|localtime|localtimestamp|now\(\)|today\(\))", re.IGNORECASE
)


def faults(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, keywords = node.func.attr, {word.arg: word.value for word in node.keywords}
            naive = keywords.get("tzinfo")
            if (
                name in LOCAL_CALLS
                or (name == "astimezone" and not node.args and not keywords)
                or (name == "replace" and isinstance(naive, ast.Constant) and naive.value is None)
                or (name == "combine" and len(node.args) == 2 and "tzinfo" not in keywords)
                or (
                    name in {"tz_localize", "tz_convert"}
                    and any(isinstance(a, ast.Constant) and a.value is None for a in node.args)
                )
            ):
                yield node.lineno, name
        text = ast.unparse(node) if isinstance(node, ast.JoinedStr) else getattr(node, "value", None)
        if isinstance(text, str) and re.search(r"\b(SELECT|INSERT)\b", text):
            yield from ((node.lineno, found) for found in LOCAL_SQL.findall(text))


@pytest.mark.slow
def test_the_time_zone_of_the_process_is_never_asked_for():
    found = []
    for path in sorted(path for package in PACKAGES for path in (PROJECT_ROOT / package).rglob("*.py")):
        name, text = path.relative_to(PROJECT_ROOT).as_posix(), path.read_text("utf-8")
        if name in LOCAL:
            continue
        found += [f"{name}:{line} {what}" for line, what in faults(ast.parse(text))]
        found += [f"{name}:{line} DTZ is off" for line, said in enumerate(text.splitlines(), 1) if "noqa: DTZ" in said]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "at.astimezone()",
        "time.localtime()",
        "at.replace(tzinfo=None)",
        "datetime.combine(day, time())",
        "series.dt.tz_localize(None)",
        "run('SELECT now()')",
        "run(f'SELECT {x} WHERE d = current_date')",
    ],
)
def test_the_guard_sees(code):
    assert list(faults(ast.parse(code)))


@pytest.mark.parametrize("code", ["at.astimezone(UTC)", "datetime.combine(day, time(), UTC)", "text.replace('a', 'b')"])
def test_the_guard_lets_pass(code):
    assert not list(faults(ast.parse(code)))
