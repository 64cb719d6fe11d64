"""Feast's classes are as they are written, in whatever order it, typeguard and ours are imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from configs.settings import PROJECT_ROOT

OURS = """
import typeguard
from feast import Entity, FeatureView
from feast.feature_view import FeatureView as View
assert not [each for each in (Entity, FeatureView, View) if "TypeCheckMemo" in each.__init__.__code__.co_names]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    ["import feature_repo.definitions\nfrom configs.type_checks import leave_out\nleave_out()", "import typeguard"],
    ids=["Feast was first", "typeguard was first"],
)
def test_feast_is_not_compiled_again(first):
    run(f"{first}\nimport feature_repo.contract\n{OURS}")


def test_what_others_ask_of_typeguard_is_done(tmp_path):
    (tmp_path / "of_others.py").write_text(
        "from typeguard import typechecked\n@typechecked\ndef f(number: int): return number\n"
    )
    run(
        f"import feature_repo, sys\nsys.path.append({str(tmp_path)!r})\nimport of_others, typeguard\n"
        "try: of_others.f('one')\nexcept typeguard.TypeCheckError: print('refused')",
        "refused\n",
    )


def test_typeguard_is_not_loaded_before_it_is_needed():
    run("import feature_repo.contract, sys\nassert 'typeguard' not in sys.modules")


def run(code, says=""):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT_ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, says), done.stderr
