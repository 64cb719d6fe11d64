"""The docstrings of what users, Feast and other packages call: numpydoc sections, an example, and the page on why."""

from __future__ import annotations

import ast
import re

import pytest

from configs.settings import PROJECT_ROOT

PACKAGES = ("configs", "feature_repo", "training", "bentos", "flows", "monitoring")
SECTION = re.compile(r"^(Parameters|Returns|Yields|Raises)\n-+$", re.MULTILINE)
PAGE = re.compile(r"docs/[\w./-]+\.md")

DOORS = {
    "bentos.bundle.bundle": "Bundle Explanation Bundle.load",
    "bentos.bundle.manifest": "Manifest is_digest",
    "bentos.client.async_client": "AsyncChurnClient",
    "bentos.client.client": "ChurnClient",
    "bentos.client.errors": "ChurnServiceError refusal",
    "bentos.client.retries": "Patience",
    "bentos.prediction.model": "load_model",
    "bentos.prediction.prediction": "Prediction prediction_ids",
    "bentos.prediction.predictor": "predict_rows refusal",
}
"""Module -> its classes and functions that must show an example; tests/unit/test_docstring_examples.py runs them."""

SECTIONS = {
    "bentos.bundle.bundle": "Bundle Explanation Bundle.score Bundle.explain_vectors Bundle.save Bundle.load",
    "bentos.bundle.manifest": "Manifest",
    "bentos.client.async_client": "AsyncChurnClient",
    "bentos.client.client": "ChurnClient ChurnClient.predict ChurnClient.predict_many ChurnClient.what_if",
    "bentos.client.errors": "ChurnServiceError",
    "bentos.client.retries": "Patience",
    "bentos.prediction.model": "ServingModel load_model warm_up",
    "bentos.prediction.prediction": "ModelInfo Prediction",
    "bentos.prediction.predictor": "predict_customers predict_rows",
    "bentos.prediction.what_if": "WhatIfPrediction predict_what_if",
}
"""Module -> its classes and functions whose arguments, results and errors must stand in numpydoc sections."""


def tree(module):
    path = PROJECT_ROOT.joinpath(*module.split("."))
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))


def docstring(module, name):
    node = tree(module)
    for part in name.split("."):
        node = next(each for each in node.body if getattr(each, "name", None) == part)
    return ast.get_docstring(node) or ""


def listed(table):
    return [(module, name) for module, names in table.items() for name in names.split()]


@pytest.mark.parametrize(("module", "name"), listed(DOORS))
def test_it_shows_an_example(module, name):
    assert "\nExamples\n--------\n" in docstring(module, name)
    assert ">>> " in docstring(module, name)


@pytest.mark.parametrize(("module", "name"), listed(SECTIONS))
def test_it_has_sections(module, name):
    assert SECTION.search(docstring(module, name))


@pytest.mark.parametrize("module", sorted({*DOORS, *SECTIONS}))
def test_its_module_names_the_page_on_why(module):
    text = ast.get_docstring(tree(module)) or ""
    package = ast.get_docstring(tree(module.rpartition(".")[0])) or ""
    assert PAGE.search(text) or PAGE.search(package)


def test_pages_that_docstrings_name_exist():
    missing = []
    for package in PACKAGES:
        for path in (PROJECT_ROOT / package).rglob("*.py"):
            pages = set(PAGE.findall(path.read_text(encoding="utf-8")))
            missing += [f"{path.name}: {page}" for page in pages if not (PROJECT_ROOT / page).is_file()]
    assert missing == []
