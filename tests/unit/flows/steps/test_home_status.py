"""The state of a home, as manifests, pointer and ledger give it, and as the command prints it."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from bentos.rollout.rollout import promote
from configs.settings import load_settings
from feature_repo.contract import ACTIVITY_SOURCE, SOURCE
from feature_repo.files.table_paths import part_path
from feature_repo.raw.snapshots.acceptance import Acceptance, write_acceptance
from feature_repo.raw.snapshots.origin import Origin
from feature_repo.raw.snapshots.publication import published_snapshots
from feature_repo.stores.materialization_record import MaterializationRecord, write_record
from flows.cli.commands import cli
from flows.cli.status_text import status_lines
from flows.service_process import free_port
from flows.steps import home_status as status_module
from flows.steps.gate_reports import version_folder
from flows.steps.home_status import home_status
from flows.steps.monitor import newest_gate_verdict
from monitoring.quality_report import VANISHED_RULE, CheckResult, GateResult, gate_to_json
from tests.support.patience import PATIENCE_S
from tests.support.small_model import publish_month, saved

NOW = datetime(2026, 6, 2, tzinfo=UTC)
MAY, JUNE = date(2026, 5, 2), date(2026, 6, 1)
CUSTOMERS = {f"{number:04d}-ABCDE": "No" for number in range(5)}


@pytest.fixture
def settings(tmp_path):
    settings = load_settings(home=tmp_path / "home")
    return settings.model_copy(update={"serving": settings.serving.model_copy(update={"port": free_port()})})


def text(settings):
    """The lines by label; a line without one belongs to the line before."""
    found: dict[str, list[str]] = {}
    label = ""
    for line in status_lines(home_status(settings, NOW)):
        label = line[:11].strip() or label
        found.setdefault(label, []).append(line[12:])
    return {label: "\n".join(lines) for label, lines in found.items()}


def test_an_empty_home_says_that_it_is_empty_and_stays_so(settings):
    said = text(settings)
    assert said["home"] == f"{settings.home} (empty)"
    assert (said["snapshots"], said["deliveries"], said["inbox"]) == ("none", "none: no events", "empty")
    assert (said["champion"], said["problems"]) == ("none: no model serves", "none")
    assert said["next"].startswith("churn ingest --csv PATH")
    assert not settings.home.exists()


@pytest.mark.slow
def test_each_step_moves_it_on(settings):
    home = settings.home
    publish_month(home, MAY, CUSTOMERS)
    publish_month(home, JUNE, CUSTOMERS)
    publish_month(home, JUNE, CUSTOMERS | {"0009-ABCDE": "No"}, replace=True)
    said = text(settings)
    assert said["home"].endswith("(real customers)")
    assert said["snapshots"] == "2, 2026-05-02 to 2026-06-01, 1 corrected; newest: 6 rows, 0 quarantined"
    assert said["features"] == "built 0 of 3 snapshot versions, 0 of 0 deliveries; no view registered"
    assert said["age"] == "snapshot fresh (24 h)"
    assert said["next"].startswith("churn build-features")
    for part in ("2026-05-02.v1", "2026-06-01.v1", "2026-06-01.v2"):
        path = part_path(home, SOURCE, part)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert text(settings)["next"].startswith("churn apply")
    bundle = saved(home, snapshots=("2026-06-01.v2",))[0]
    outside = settings.model_copy(
        update={"feast": settings.feast.model_copy(update={"registry_url": type(settings.feast.registry_url)("x")})}
    )
    said = text(outside)
    assert said["features"].endswith("registry outside the home")
    assert said["next"].startswith("churn promote")
    promote(home, bundle.digest, who="ann", why="the first", now=NOW - timedelta(hours=1))
    said = text(outside)
    serves = f"bundle {bundle.digest[:12]} (model 20260101T060000) since 2026-06-01 23:00 UTC, by ann: the first"
    assert (said["champion"], said["next"].split("  ")[0]) == (serves, "churn materialize")
    parts = {SOURCE: 3, ACTIVITY_SOURCE: 0}
    write_record(home, MaterializationRecord(NOW, NOW - timedelta(days=1), 6, 3, "sqlite", parts))
    said = text(outside)
    assert said["online"] == (
        "sqlite: 6 customers materialised 2026-06-02 00:00 UTC, newest of 2026-06-01 00:00 UTC; current"
    )
    assert said["next"].startswith("churn serve")
    publish_month(home, NOW.date(), CUSTOMERS)
    said = text(outside)
    assert said["next"].startswith("churn build-features")
    part_path(home, SOURCE, "2026-06-02.v1").touch()
    assert text(outside)["online"].endswith("older than the offline tables")


def test_what_is_wrong_is_named(settings):
    home = settings.home
    publish_month(home, MAY, CUSTOMERS)
    inbox = home / "inbox"
    inbox.mkdir()
    for name in ("telco_2026-06-01.csv", "notes.txt", "world.json"):
        (inbox / name).touch()
    report = home / "reports" / "gate" / "2026-06-01-0123456789ab.json"
    report.parent.mkdir(parents=True)
    report.touch()
    (home / "bundles").mkdir()
    (home / "bundles" / "champion.json").write_text("{")
    said = text(settings)
    assert said["inbox"] == "1 to be ingested, 1 left there"
    assert "the gate refused the file of 2026-06-01" in said["problems"]
    assert "notes.txt (its name does not say what it is)" in said["problems"]
    assert "champion.json" in said["problems"]
    assert said["models"] == "unreadable"
    assert said["next"] == "repair what can't be read: see the problems"
    (home / "bundles" / "champion.json").unlink()
    assert text(settings)["next"].startswith("the gate refused a file")
    (home / "processed" / "2026-05-02" / "manifest.json").write_text("{}")
    assert "manifest.json lacks" in text(settings)["problems"]


def test_a_home_with_both_origins_is_named(settings):
    publish_month(settings.home, MAY, CUSTOMERS)
    publish_month(settings.home, JUNE, CUSTOMERS)
    path = settings.home / "processed" / "2026-06-01" / "versions"
    for manifest in (*path.glob("*/manifest.json"), path.parent / "manifest.json"):
        origin: Origin = "simulated"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"origin": origin}))
    assert text(settings)["problems"].startswith("the home holds simulated and real customers")


def refusal(rule):
    """The JSON report of a file that one rule refused."""
    check = CheckResult(rule, "", "", False, 1, 1.0, "critical", False, (), "", "")
    return gate_to_json(GateResult(passed=False, rows=1, blank_totals=0, quarantined=(), checks=(check,)))


def test_an_acceptance_hides_a_refusal_for_vanished_customers_alone(settings):
    home, sha256 = settings.home, "0123456789ab" + "0" * 52
    publish_month(home, MAY, CUSTOMERS)
    (home / "inbox").mkdir()
    (home / "inbox" / "telco_2026-06-01.csv").touch()
    report = home / "reports" / "gate" / f"{JUNE}-{sha256[:12]}.json"
    report.parent.mkdir(parents=True)
    report.write_text(refusal(VANISHED_RULE))
    assert text(settings)["next"].startswith("the gate refused a file")
    write_acceptance(home, Acceptance(sha256, JUNE, "ann", "sold", NOW))
    said = text(settings)
    assert "refused" not in said["problems"]
    assert said["next"].startswith("prefect deployment run")
    for content in (refusal("domain"), "{"):
        report.write_text(content)
        said = text(settings)
        assert "the gate refused the file of 2026-06-01" in said["problems"]
        assert said["next"].startswith("the gate refused a file")


@contextmanager
def answering(port, answer):
    """A program that answers every connection to the port with the same bytes."""
    with socket.create_server(("127.0.0.1", port)) as server:

        def run():
            while True:
                caller, _ = server.accept()
                with caller:
                    if not caller.recv(4096):
                        return
                    caller.sendall(answer)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n<>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    ],
)
def test_another_program_on_the_port_is_a_problem(settings, answer, monkeypatch):
    monkeypatch.setattr(status_module, "_SERVICE_S", PATIENCE_S)
    with answering(settings.serving.port, answer):
        said = text(settings)
    assert said["service"].endswith("does not answer")
    assert said["problems"].startswith(f"another program answers at http://127.0.0.1:{settings.serving.port}: ")


@pytest.mark.parametrize("content", ["{", "[]", '{"before": 1}'])
def test_damaged_movements_are_a_problem_and_a_finding(settings, content):
    publish_month(settings.home, MAY, CUSTOMERS)
    [manifest] = published_snapshots(settings.home)
    (version_folder(settings.home, manifest) / "movements.json").write_text(content)
    assert "movements.json is damaged" in text(settings)["problems"]
    assert "movements.json is damaged" in newest_gate_verdict(settings, NOW).finding


@pytest.mark.parametrize("damage", [{"parts": []}, {"parts": {SOURCE: "1"}}, {"customers": None}, {"at": "2026-06-02"}])
def test_a_damaged_materialisation_record_is_a_problem(settings, damage):
    write_record(settings.home, MaterializationRecord(NOW, NOW, 6, 3, "sqlite", {SOURCE: 1}))
    path = settings.home / "feast" / "materialized.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    said = text(settings)
    assert said["problems"].startswith("feast/materialized.json is damaged")
    assert said["online"].endswith("no materialisation recorded")


def test_rows_that_were_not_known_yet_are_to_be_materialised_later(settings):
    for next_known_at, state in ((NOW + timedelta(hours=1), "current"), (NOW, "older than the offline tables")):
        write_record(settings.home, MaterializationRecord(NOW, NOW, 6, 3, "sqlite", {SOURCE: 1}, next_known_at))
        assert text(settings)["online"].endswith(f"; {state}")


def test_an_inbox_that_may_not_be_read_is_a_problem():
    """As the user ``nobody``: root may read everything."""
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(home=Path(home))
        (settings.home / "inbox").mkdir()
        settings.home.chmod(0o755)
        (settings.home / "inbox").chmod(0)
        before = os.geteuid()
        os.seteuid(before or 65534)
        try:
            said = text(settings)
        finally:
            os.seteuid(before)
    assert said["inbox"] == "unreadable"
    assert f"{settings.home / 'inbox'} cannot be read: Permission denied" in said["problems"]


def test_a_damaged_bundle_blocks_the_next_command_only_if_one_needs_it(settings):
    home = settings.home
    publish_month(home, MAY, CUSTOMERS)
    publish_month(home, JUNE, CUSTOMERS)
    folders = []
    for number in range(5):
        bundle, folder = saved(home, model_version=f"model-{number}")
        folders.append(folder)
        os.utime(folder, (number, number))
        if number in {1, 2}:
            promote(home, bundle.digest, who="ann", why="better", now=NOW - timedelta(hours=3 - number))
    # A save that was interrupted.
    left = home / "bundles" / ".tmp-1"
    left.mkdir()
    (left / "manifest.json").write_text("{")
    said = text(settings)
    assert (said["problems"], said["models"]) == ("none", "5 bundles, 2 changes in the ledger")
    # 1 is the previous champion, 2 the champion, 4 the newest.
    for number, blocks in ((0, False), (1, True), (2, True), (3, False), (4, True)):
        manifest = folders[number] / "manifest.json"
        content = manifest.read_bytes()
        manifest.write_bytes(b"{")
        said = text(settings)
        assert folders[number].name in said["problems"]
        assert said["next"].startswith("repair what can't be read") == blocks, number
        manifest.write_bytes(content)


def test_json_has_the_same(settings, monkeypatch):
    publish_month(settings.home, MAY, CUSTOMERS)
    monkeypatch.setenv("CHURN_HOME", str(settings.home))
    monkeypatch.setenv("CHURN_SERVING__PORT", str(settings.serving.port))
    done = CliRunner().invoke(cli, ["status", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["origin"], told["snapshots"]["dates"], told["next"]["command"]) == ("real", 1, "churn build-features")
    assert told["service"] == {
        "address": f"http://127.0.0.1:{settings.serving.port}",
        "answers": False,
        "model_version": None,
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("history", "the ledger is empty"),
        ("history --json", "the ledger is empty"),
        ("keys list", "there is no key"),
        ("keys audit", "the audit is empty"),
        ("rollout", "no model serves yet"),
    ],
)
def test_an_empty_history_says_that_it_is_empty(settings, monkeypatch, words, said):
    monkeypatch.setenv("CHURN_HOME", str(settings.home))
    done = CliRunner().invoke(cli, words.split())
    assert done.exit_code == 0
    assert said in done.output
    if "--json" in words:
        assert done.stdout == ""
