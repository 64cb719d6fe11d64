"""Queries of whole tables keep the memory and threads that the settings allow: one function opens DuckDB for them."""

import ast

from configs.settings import PROJECT_ROOT

PACKAGES = ("configs", "feature_repo", "bentos", "training", "monitoring", "flows")
# The windows of an on-demand view: the rows are in memory already, and nothing is spilled.
IN_MEMORY = "feature_repo/transforms.py"


def connects(tree):
    """Whether a module calls ``duckdb.connect``."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "connect"
        and isinstance(node.value, ast.Name)
        and node.value.id == "duckdb"
        for node in ast.walk(tree)
    )


def test_duckdb_is_opened_with_the_limits_of_the_settings():
    found = {
        path.relative_to(PROJECT_ROOT).as_posix()
        for package in PACKAGES
        for path in (PROJECT_ROOT / package).rglob("*.py")
        if connects(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == {"feature_repo/files/duckdb_session.py", IN_MEMORY}
