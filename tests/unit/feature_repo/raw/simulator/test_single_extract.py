import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from feature_repo.raw.snapshots.telco_csv import CSV_COLUMNS, normalise, read_raw
from tests.support.single_extract import simulate_snapshot, write_csv


@pytest.fixture(scope="module")
def rows():
    return simulate_snapshot(7043, seed=7)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    assert_frame_equal(simulate_snapshot(50, seed=3), simulate_snapshot(50, seed=3))
    assert not simulate_snapshot(50, seed=3).equals(simulate_snapshot(50, seed=4))


def test_written_and_read_it_is_the_same(tmp_path, rows):
    write_csv(rows, tmp_path / "new" / "simulated.csv")
    raw = read_raw(tmp_path / "new" / "simulated.csv", file_size_max_mb=5, cell_length_max_chars=100)
    assert_frame_equal(raw, rows)


def test_ids_are_unique_and_written_like_the_real_ones(rows):
    assert list(rows) == list(CSV_COLUMNS)
    assert rows["customerID"].is_unique
    assert rows["customerID"].str.fullmatch(r"[0-9]{4}-[A-Z]{5}").all()


@pytest.mark.parametrize(
    ("column", "word", "real"),
    [
        ("Churn", "Yes", 0.265),
        ("Contract", "Month-to-month", 0.55),
        ("Contract", "Two year", 0.24),
        ("InternetService", "Fiber optic", 0.44),
        ("InternetService", "No", 0.217),
        ("PhoneService", "No", 0.097),
        ("PaymentMethod", "Electronic check", 0.336),
        ("OnlineSecurity", "Yes", 0.287),
        ("StreamingTV", "Yes", 0.384),
        ("SeniorCitizen", "1", 0.162),
        ("Partner", "Yes", 0.483),
    ],
)
def test_shares_are_near_the_real_file_s(rows, column, word, real):
    assert (rows[column] == word).mean() == pytest.approx(real, abs=0.05)


def test_a_model_finds_what_is_in_it_and_no_more(rows):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    snapshot = normalise(rows)
    inputs = pd.get_dummies(snapshot.drop(columns=["customer_id", "churned"]), dtype=float).fillna(0)
    inputs = (inputs - inputs.mean()) / inputs.std()
    half = len(inputs) // 2
    model = LogisticRegression(max_iter=1000).fit(inputs[:half], snapshot["churned"][:half])
    found = roc_auc_score(snapshot["churned"][half:], model.predict_proba(inputs[half:])[:, 1])
    assert 0.82 < found < 0.87
