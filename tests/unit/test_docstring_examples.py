"""The examples of the docstrings run and print what they say, module by module."""

from __future__ import annotations

import doctest
import importlib
import tempfile
import tomllib

import pytest

from configs.settings import PROJECT_ROOT

PACKAGES = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.DONT_ACCEPT_TRUE_FOR_1


def modules():
    """Names of the modules with examples, found in their text: to import the others would cost seconds."""
    files = (path for package in PACKAGES for path in (PROJECT_ROOT / package).rglob("*.py"))
    found = (path.relative_to(PROJECT_ROOT) for path in files if ">>> " in path.read_text(encoding="utf-8"))
    return sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in found)


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_hold(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # An empty namespace: an example that forgets an import must fail, as it would fail the reader.
    found = doctest.DocTestFinder().find(importlib.import_module(name), globs={})
    examples = [each for each in found if each.examples]
    assert examples, f"{name} has a line that looks like an example and belongs to no docstring"
    reported = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    for each in examples:
        runner.run(each, out=reported.append)
    assert not runner.failures, "".join(reported)
