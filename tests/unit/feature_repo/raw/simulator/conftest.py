"""A few customers to look at."""

import numpy as np
import pytest

from feature_repo.raw.simulator.calibration import load_calibration
from feature_repo.raw.simulator.population import newcomers
from feature_repo.raw.simulator.transitions import first_customers


@pytest.fixture(scope="session")
def constants():
    return load_calibration()


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def people(rng, constants):
    """A thousand active customers."""
    return newcomers(rng, first_customers(rng, 1000, constants), np.arange(1000), 100, constants)
