"""A column's name is written in one place: which files may name the columns of the Telco file and the features."""

from __future__ import annotations

import ast
import re
import subprocess
from fnmatch import fnmatch

import pytest

from configs.settings import PROJECT_ROOT
from feature_repo.contract import CSV_KEY, CSV_LABEL, FEATURES

PACKAGES = ("bentos", "configs", "feature_repo", "flows", "monitoring", "training")
MAY_NAME = {
    "feature_repo/contract.py": "the contract: names, types and meanings",
    "feature_repo/transforms.py": "how derived features are computed from others",
    "feature_repo/events.py": "the fields of an event",
    "feature_repo/raw/snapshots/telco_csv.py": "the file's columns in its order, and how each is written",
    "feature_repo/raw/simulator/*": "the simulator of such files",
    "configs/expectations/*.json": "the suites of the gate",
    "monitoring/gate_rules.py": "the gate's rules that span columns",
    "training/model/feature_columns.py": "the designs: how a model reads each feature",
    "training/metrics/slices.py": "the groups by which metrics are broken down",
    "configs/reason_codes.toml": "the reason of each feature",
    "configs/levers.toml": "what an offer changes",
    "bentos/decisions/levers.py": "which values of a what-if exclude each other",
    "bentos/decisions/feature_words.py": "the words of a feature whose name does not say it",
    "configs/freshness.toml": "features that may be null while their view is fresh",
    "bentos/churn/api/examples.py": "examples of answers in the API's document",
    "bentos/churn/api/schemas.py": "the example of a request in the API's document",
}
"""File or pattern -> why it names columns. All others read them from the contract."""
COLUMNS = {each.name for each in FEATURES} | {each.column for each in FEATURES} - {""} | {CSV_KEY, CSV_LABEL}
UNMISTAKABLE = {name for name in COLUMNS if re.search(r"_|[a-z][A-Z]", name)}
"""Names that are no words of English: found inside longer texts too."""
OTHER_MEANINGS = {("bentos/churn/app.py", CSV_LABEL)}
"""The title of the API's document."""


def named_in_code(text):
    """Return the columns that code names: whole strings, keywords and attributes; in longer texts, what is no word."""
    tree = ast.parse(text)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found |= {node.value} & COLUMNS | set(re.findall(r"\w+", node.value)) & UNMISTAKABLE
        elif isinstance(node, ast.keyword):
            found |= {node.arg} & COLUMNS
        elif isinstance(node, ast.Attribute):
            found |= {node.attr} & UNMISTAKABLE
    return found


def named(path):
    text = path.read_text("utf-8")
    return named_in_code(text) if path.suffix == ".py" else set(re.findall(r"\w+", text)) & UNMISTAKABLE


@pytest.mark.slow
def test_only_the_listed_files_name_columns():
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT
    )
    found = {name: columns for name in listed.stdout.split() if (columns := named(PROJECT_ROOT / name))}
    assert all(any(fnmatch(name, rule) for name in found) for rule in MAY_NAME), "an exception that nothing needs"
    others = {name: columns for name, columns in found.items() if not any(fnmatch(name, rule) for rule in MAY_NAME)}
    beyond = {(name, column) for name, columns in others.items() for column in columns} - OTHER_MEANINGS
    assert sorted(beyond) == []


@pytest.mark.parametrize(
    "code", ["frame['Contract']", "frame.assign(gender=1)", "frame.tenure_months", "run('SELECT tenure_months FROM x')"]
)
def test_a_name_is_found(code):
    assert named_in_code(code)


@pytest.mark.parametrize("code", ["'''gender'''", "log('the Contract of a Partner')", "row.tenure"])
def test_words_pass(code):
    assert not named_in_code(code)
