"""A small Telco file and its reader."""

import pytest

from feature_repo.raw.snapshots.telco_csv import read_raw
from tests.support.single_extract import simulate_snapshot


@pytest.fixture(scope="session")
def eight_rows():
    """Eight customers as raw strings."""
    return simulate_snapshot(8, seed=1)


@pytest.fixture(scope="session")
def plain(eight_rows):
    """The same as the bytes of a file."""
    return eight_rows.to_csv(index=False, lineterminator="\n").encode()


@pytest.fixture
def read(tmp_path):
    """Read bytes as if they lay in ``extract.csv``."""

    def reader(content, **options):
        path = tmp_path / "extract.csv"
        path.write_bytes(content)
        return read_raw(path, **{"file_size_max_mb": 1, "cell_length_max_chars": 1000, **options})

    return reader
