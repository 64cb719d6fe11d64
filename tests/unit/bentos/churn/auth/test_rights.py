"""Which right each path needs."""

import pytest

from bentos.churn.auth.rights import OPEN_PATHS, RIGHTS, SCORING, right_of, template


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/predict", "predict"),
        ("/predict/batch", "predict"),
        ("/predict/what-if", "predict"),
        ("/predict/anything", "predict"),
        ("/predictions/01a204b1-6022-79d9-a58e-4cb07ee36e70", "receipts"),
        ("/metrics", "metrics"),
        ("/metadata", None),
        ("/ui", None),
        ("/predicted", None),
        ("/predictions", None),
        ("/metrics/", None),
        ("", None),
    ],
)
def test_a_path_needs_one_right_or_any_key(path, right):
    assert right_of(path) == right


def test_what_is_open_needs_no_right_and_is_never_limited():
    assert {right_of(path) for path in OPEN_PATHS} == {None}
    assert set(RIGHTS) >= SCORING


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/predict", "/predict"),
        ("/predictions/0197e4b2", "/predictions/{prediction_id}"),
        ("/predictions/0197e4b2/more", "other"),
        ("/predictions", "other"),
        ("/7590-VHVEG", "other"),
        ("", "other"),
    ],
)
def test_a_path_is_told_by_its_template_alone(path, route):
    assert template(path, frozenset({"/predict", "/predict/batch", "/predictions/{prediction_id}"})) == route
