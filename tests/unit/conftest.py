"""Rows that several unit tests read and none changes."""

import pytest

from tests.support.small_model import features_of_snapshot, labels_of, simulated


@pytest.fixture(scope="module")
def frame():
    """The features of a simulated snapshot."""
    return features_of_snapshot(simulated())


@pytest.fixture(scope="module")
def churned():
    """The labels of the same customers."""
    return labels_of(simulated())
