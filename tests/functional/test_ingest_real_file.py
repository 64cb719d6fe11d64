"""The public Telco file, whole; simulated rows where it is not there."""

import hashlib
from datetime import UTC, date, datetime

import pytest
from pandas.testing import assert_frame_equal

from configs.settings import load_settings
from feature_repo.raw.snapshots.publication import published_snapshots, read_snapshot
from flows.steps.ingest_snapshot import ingest_snapshot

AS_OF = date(2024, 3, 1)
NOW = datetime(2024, 3, 1, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def landed(tmp_path_factory, telco_csv):
    settings = load_settings(home=tmp_path_factory.mktemp("home"))
    return settings, ingest_snapshot(settings, telco_csv, AS_OF, ingested_at=NOW)


def test_every_rule_holds_and_nothing_is_lost(landed, telco_csv):
    settings, landing = landed
    lines = telco_csv.read_text(encoding="utf-8").splitlines()
    assert landing.fresh
    assert [check.rule for check in landing.gate.checks if not check.passed] == []
    assert (landing.manifest.rows, landing.manifest.quarantined_rows) == (len(lines) - 1, 0)
    snapshot = read_snapshot(settings.home, landing.manifest)
    assert snapshot["customer_id"].tolist() == [line.split(",")[0] for line in lines[1:]]
    assert published_snapshots(settings.home) == [landing.manifest]


def test_blank_totals_are_null_and_counted(landed, telco_csv):
    settings, landing = landed
    snapshot = read_snapshot(settings.home, landing.manifest)
    blank = snapshot["total_charges_usd"].isna()
    assert blank.sum() == landing.gate.blank_totals == telco_csv.read_text(encoding="utf-8").count(", ,")
    assert (snapshot.loc[blank, "tenure_months"] == 0).all()
    assert snapshot.drop(columns="total_charges_usd").notna().all(axis=None)


def test_the_real_figures(landed, public_csv):
    settings, landing = landed
    assert (landing.manifest.rows, landing.gate.blank_totals) == (7043, 11)
    assert landing.manifest.churn_rate == pytest.approx(1869 / 7043)
    assert landing.manifest.source_sha256 == "16320c9c1ec72448db59aa0a26a0b95401046bef5d02fd3aeb906448e3055e91"
    first = read_snapshot(settings.home, landing.manifest).iloc[0].to_dict()
    assert first == {
        "customer_id": "7590-VHVEG",
        "partner": True,
        "dependents": False,
        "tenure_months": 1,
        "contract_type": "Month-to-month",
        "phone_service": False,
        "multiple_lines": "No phone service",
        "internet_service": "DSL",
        "online_security": "No",
        "online_backup": "Yes",
        "device_protection": "No",
        "tech_support": "No",
        "streaming_tv": "No",
        "streaming_movies": "No",
        "paperless_billing": True,
        "payment_method": "Electronic check",
        "monthly_charges_usd": 29.85,
        "total_charges_usd": 29.85,
        "gender": "Female",
        "senior_citizen": False,
        "churned": False,
    }


def test_the_raw_copy_is_the_file(landed, telco_csv):
    settings, landing = landed
    copy = settings.home / "raw" / "2024-03-01" / f"{landing.manifest.source_sha256[:12]}.csv"
    assert copy.read_bytes() == telco_csv.read_bytes()
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == landing.manifest.source_sha256


def test_the_first_snapshot_s_time_is_declared(landed):
    _, landing = landed
    assert landing.manifest.time == "declared"
    assert landing.manifest.event_at == datetime(2024, 1, 31, tzinfo=UTC)
    assert landing.manifest.created_at == datetime(2024, 1, 31, 6, tzinfo=UTC)
    assert landing.manifest.ingested_at == NOW


def test_the_reports_lie_beside_the_snapshot_and_name_no_customer(landed):
    settings, landing = landed
    snapshot = read_snapshot(settings.home, landing.manifest)
    told = landing.report_html.read_text() + landing.report_json.read_text()
    assert not [customer for customer in snapshot["customer_id"] if customer in told]
    assert landing.report_html.parent == (settings.home / landing.manifest.path).parent


VARIANTS = {
    "UTF-8 with BOM": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "Latin-1": lambda text: text.encode("latin-1"),
    "semicolons, CRLF, BOM, no last line end": lambda text: (
        b"\xef\xbb\xbf" + text.rstrip("\n").replace(",", ";").replace("\n", "\r\n").encode()
    ),
}


@pytest.fixture(scope="module")
def accented(tmp_path_factory, telco_csv):
    """The file with one customer's id beyond ASCII, and the snapshot it gives."""
    text = telco_csv.read_text(encoding="utf-8").replace("-", "-É", 1)
    folder = tmp_path_factory.mktemp("accented")
    (folder / "plain.csv").write_text(text, encoding="utf-8", newline="")
    settings = load_settings(home=folder / "home")
    landing = ingest_snapshot(settings, folder / "plain.csv", AS_OF, ingested_at=NOW)
    return text, landing.manifest, read_snapshot(settings.home, landing.manifest)


@pytest.mark.parametrize("variant", VARIANTS)
def test_however_it_is_written_it_gives_the_same_snapshot(tmp_path, settings, accented, variant):
    text, plain, snapshot = accented
    (tmp_path / "variant.csv").write_bytes(VARIANTS[variant](text))
    landing = ingest_snapshot(settings, tmp_path / "variant.csv", AS_OF, ingested_at=NOW)
    assert landing.manifest.digest == plain.digest
    assert landing.manifest.source_sha256 != plain.source_sha256
    assert_frame_equal(read_snapshot(settings.home, landing.manifest), snapshot)
