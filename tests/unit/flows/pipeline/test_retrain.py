"""What a retraining says where the same data, settings and code gave an existing version."""

from __future__ import annotations

import pytest

from flows.pipeline.retrain import _nothing_new
from training.promotion import Rule, Verdict

WORSE = Verdict(promote=False, rules=(Rule("no leak", held=False, figures="0.99 <= 0.98"),))
BETTER = Verdict(promote=True, rules=())


@pytest.mark.parametrize(
    ("fresh", "verdict", "champion", "said"),
    [
        (True, WORSE, "c", None),
        (False, BETTER, "c", None),
        # It serves: the deployment says so.
        (False, WORSE, "d", None),
        (False, WORSE, "c", "the champion stays"),
        (False, WORSE, None, "no model serves"),
    ],
)
def test_an_existing_version_that_may_not_serve_is_nothing_new(fresh, verdict, champion, said):
    trained = {"version": "5", "digest": "d", "fresh": fresh}
    found = _nothing_new(trained, {"verdict": verdict.to_json(), "champion": champion})
    if said is None:
        assert found is None
    else:
        assert (found["outcome"], found["version"]) == ("nothing new", "5")
        assert found["why"] == f"nothing new was trained, and {said}: failed: no leak (0.99 <= 0.98)"
        assert "refused" not in str(found)
