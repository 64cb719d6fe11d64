"""What is deployed, on a real Prefect server and worker: deployments, dead workers, approval, leases."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import mlflow
import pytest
import yaml
from prefect.states import AwaitingRetry, Cancelled, Cancelling, Completed, Failed, Paused, Pending, Running, Scheduled

from bentos.decisions.reason_codes import PATH as REASON_CODES
from bentos.rollout.ledger import read_ledger
from bentos.rollout.rollout import promote, read_rollout
from configs.settings import PROJECT_ROOT, load_settings
from feature_repo.contract import CUSTOMER, LABEL
from feature_repo.files.locks import lease
from feature_repo.raw.simulator.manifest import available_at
from feature_repo.raw.simulator.simulate import simulate
from feature_repo.raw.snapshots.publication import published_snapshots, read_snapshot
from feature_repo.stores.materialize import materialize
from feature_repo.stores.registration import apply
from flows.pipeline import sweep
from flows.service_process import ServiceProcess as Service
from flows.service_process import free_port, request_json
from flows.steps.build_features import build_features
from flows.steps.ingest_snapshot import ingest_snapshot
from tests.support.prefect_server import FILE, PATIENCE_S, prefect_server
from tests.support.serving_home import serving
from tests.support.small_model import small_bundle
from training.mlflow_database import tracking_uri

pytestmark = pytest.mark.timeout(1200)
MONTHS = 2


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    # The last extract is yesterday's: the service answers of today.
    start = datetime.now(UTC).date() - timedelta(days=1 + 30 * (MONTHS - 1))
    return simulate(tmp_path_factory.mktemp("two") / "world", 900, MONTHS, 7, start, jsonl=False)


@pytest.fixture(scope="module")
def planning(tmp_path_factory):
    """A server with everything deployed, and the deployments that it planned runs of; the schedules are paused."""
    # No drift here: what it would start would meet the next test's home.
    deaf = {f"CHURN_MONITORING__{name}": "1000" for name in ("PSI_MAX", "SCORE_PSI_MAX", "LABEL_PSI_MAX")}
    deaf |= {"CHURN_MONITORING__LOG_LOSS_RISE_MAX": "1000", "CHURN_MONITORING__CALIBRATION_GAP_MAX": "1"}
    with prefect_server(tmp_path_factory.mktemp("server"), {"CHURN_TRAINING__TRIALS": "1", **deaf}) as server:
        server.deploy()
        planned = server.scheduled(6)
        server.pause_schedules()
        yield server, planned


@pytest.fixture(scope="module")
def prefect(planning):
    """The server; each test brings its home and its worker, and says what runs: no schedule does."""
    return planning[0]


@pytest.fixture
def home(tmp_path, world):
    """A home in whose inbox two months wait."""
    inbox = tmp_path / "home" / "inbox"
    inbox.mkdir(parents=True)
    for day in world.snapshots:
        shutil.copyfile(world.extract(day), inbox / f"telco_{day}.csv")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def online(tmp_path_factory, world):
    """A home whose two months were landed and are online, without Prefect."""
    settings = load_settings(home=tmp_path_factory.mktemp("online") / "home")
    for day in world.snapshots:
        ingest_snapshot(settings, world.extract(day), day, ingested_at=available_at(day))
    build_features(settings)
    apply(settings)
    materialize(settings, available_at(world.snapshots[-1]))
    return settings.home


@pytest.fixture
def landed(tmp_path, online):
    """A copy of that home to train in."""
    shutil.copytree(online, tmp_path / "home")
    return tmp_path / "home"


def deployed():
    return yaml.safe_load((PROJECT_ROOT / FILE).read_text("utf-8"))["deployments"]


def at(world):
    return available_at(world.snapshots[-1]).isoformat()


def versions(home):
    mlflow.set_tracking_uri(tracking_uri(load_settings(home=home)))
    return mlflow.MlflowClient().search_model_versions("name='churn'")


def test_the_server_plans_what_has_a_schedule(planning):
    prefect, planned = planning
    assert planned == {"nightly", "daily", "hourly", "weekly", "monthly", "every-five-minutes"}
    assert "schedule_recent_deployments" not in (prefect.folder / "server.log").read_text("utf-8")


def test_everything_is_deployed_with_types_descriptions_and_defaults(prefect):
    with prefect.client() as client:
        found = {f"{client.read_flow(each.flow_id).name}/{each.name}": each for each in client.read_deployments()}
    assert set(found) == {f"{each['entrypoint'].rsplit('.', 1)[1]}/{each['name']}" for each in deployed()}
    for name, deployment in found.items():
        assert deployment.description, name
        for parameter, schema in deployment.parameter_openapi_schema["properties"].items():
            assert schema.get("description"), f"{name}: {parameter} has no description"
            assert "default" in schema or parameter in deployment.parameters, f"{name}: {parameter} has no default"
            assert {"type", "anyOf", "enum", "$ref", "allOf"} & set(schema), f"{name}: {parameter} has no type"
    schedules = {name: [each.schedule.cron for each in one.schedules] for name, one in found.items() if one.schedules}
    assert schedules == {
        "refresh/nightly": ["30 3 * * *"],
        "monitor/daily": ["0 6 * * *"],
        "freshness/hourly": ["15 * * * *"],
        "retrain/weekly": ["0 5 * * 1"],
        "score_base/monthly": ["0 7 1 * *"],
        "sweep/every-five-minutes": ["*/5 * * * *"],
    }


def test_deploying_again_changes_nothing(prefect):
    again = prefect.command("--no-prompt", "deploy", "--all", "--prefect-file", FILE)
    prefect.pause_schedules()
    assert again.returncode == 0, again.stdout + again.stderr
    with prefect.client() as client:
        assert len(client.read_deployments()) == len(deployed())
        automations = client.read_automations()
    assert len([each for each in automations if "churn.drift.detected" in str(each)]) == 1


def documented():
    """Deployment -> what becomes of a second run, as the pipeline owner's page says."""
    page = (PROJECT_ROOT / "docs" / "journeys" / "pipeline-owner.md").read_text("utf-8")
    return dict(re.findall(r"^\| `(\w+/[\w-]+)` \| [^|]+ \| (cancelled|queued) \|", page, re.MULTILINE))


def test_every_deployment_has_a_name_of_its_own_and_two_runs_do_what_the_documentation_says(prefect):
    names = [each["name"] for each in deployed()]
    assert len(set(names)) == len(names)
    told = {"CANCELLED": "cancelled", "AwaitingConcurrencySlot": "queued"}
    found = {}
    with prefect.client() as client:
        for each in deployed():
            name = f"{each['entrypoint'].rsplit('.', 1)[1]}/{each['name']}"
            runs = [prefect.start(name) for _ in range(2)]
            first = client.set_flow_run_state(runs[0].id, Pending())
            second = client.set_flow_run_state(runs[1].id, Pending())
            assert first.state.is_pending()
            found[name] = told.get(second.state.name) or told.get(second.state.type.value)
            if name == "deploy/deploy-by-hand":
                # A run that waits for a person has given its place back: the next one begins.
                client.set_flow_run_state(runs[0].id, Paused(timeout_seconds=600), force=True)
                runs.append(prefect.start(name))
                assert client.set_flow_run_state(runs[-1].id, Pending()).state.is_pending()
            for run in runs:
                client.set_flow_run_state(run.id, Cancelled(), force=True)
    assert found == documented()


def landed_some(home):
    """Whether the first file of features is being written, or was."""
    return any((home / "offline").rglob("*.parquet"))


def trains(home):
    return (home / "mlflow").exists()


def promoted(home):
    return read_rollout(home) is not None


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param([trains], id="once"),
        pytest.param([landed_some, trains, promoted], id="three times", marks=pytest.mark.full),
    ],
)
def test_a_worker_killed_anywhere_loses_and_doubles_nothing(prefect, home, world, moments):
    """Kill -9 as soon as a step shows in the home; the sweep marks what died and starts it again, until it is done."""
    env, killed = {"CHURN_HOME": str(home)}, []
    for number, moment in enumerate(moments, 1):
        with prefect.worker(**env):
            if killed:
                killed.append(swept_again(prefect, killed[-1], number))
            else:
                killed.append(prefect.start("lifecycle/lifecycle-by-hand", now=at(world), training="always"))
            prefect.until(lambda moment=moment: moment(home), killed[-1])
        assert prefect.state(killed[-1]).state.type.value == "RUNNING"  # nobody has told the server
    with prefect.worker(**env):
        last = prefect.wait(swept_again(prefect, killed[-1], len(killed) + 1))
        assert last.state.is_completed(), last.state.message
    assert len({each.tags["training_fingerprint"] for each in versions(home)}) == len(versions(home)) == 1
    assert [entry.action for entry in read_ledger(home)] == ["promote"]
    assert read_rollout(home).champion == versions(home)[0].tags["bundle_digest"]
    assert sorted(path.name for path in (home / "inbox").iterdir()) == ["landed"]
    for one in killed:
        assert prefect.state(one).state.name == "Crashed"


def swept_again(prefect, dead, attempt):
    """The run that the sweep starts in the place of a dead one."""
    swept = prefect.run("sweep/every-five-minutes")
    assert swept.state.is_completed(), swept.state.message
    assert prefect.state(dead).state.name == "Crashed"
    again = prefect.runs("lifecycle")[-1]
    assert f"attempt:{attempt}" in again.tags
    return again


def approve(prefect, home, *words):
    return subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "approve", *words],
        env={**prefect.env, "CHURN_HOME": str(home)},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize(("answer", "outcome"), [("--yes", "promoted"), ("--no", "refused")])
def test_a_person_is_asked_before_a_promotion(prefect, landed, world, answer, outcome):
    with prefect.worker(CHURN_HOME=str(landed), CHURN_PROMOTION__APPROVAL_REQUIRED="true"):
        run = prefect.start("retrain/weekly", now=at(world), report=answer == "--yes")
        prefect.until(lambda: any(each.state.is_paused() for each in prefect.runs("deploy")), run)
        paused = [each for each in prefect.runs("deploy") if each.state.is_paused()]
        assert read_rollout(landed) is None
        who = ("--who", "Ann Lee", "--why", "as discussed")
        # Who means another challenger answers nothing: one that serves or was tried, and one that does not exist.
        served = small_bundle().save(landed)
        other = approve(prefect, landed, answer, *who, "--version", served.digest[:8])
        assert (other.returncode, other.stderr) == (0, "")
        assert "nothing to do: no deployment of" in other.stdout
        assert "version 1 (" in other.stdout
        mistyped = approve(prefect, landed, answer, *who, "--version", "77")
        assert (mistyped.returncode, "no bundle and no entry" in mistyped.stderr) == (2, True)
        assert prefect.state(paused[0]).state.is_paused()
        told = approve(prefect, landed, answer, *who, *(("--version", "1") if outcome == "promoted" else ()))
        assert told.returncode == 0, told.stderr
        done = prefect.wait(run)
    assert done.state.is_completed(), done.state.message
    assert prefect.state(paused[0]).state.is_completed()
    # What a person opens is the run that was started: the artifacts of the flows that it called are on it.
    shown = prefect.artifacts(run)
    assert {"training-report", "champion-challenger"} <= shown.keys()
    assert "refused" not in shown["champion-challenger"]
    assert not any(prefect.artifacts(child) for child in prefect.children(run).values())
    if outcome == "promoted":
        (entry,) = read_ledger(landed)
        assert (entry.who, "as discussed" in entry.why) == ("Ann Lee", True)
        assert read_rollout(landed).champion == entry.after["champion"]
        assert list((landed / "reports" / "evaluation").glob("*/report.html"))
        assert list((landed / "mlflow").rglob("cross_validation/report.html"))
    else:
        assert read_rollout(landed) is None
    assert approve(prefect, landed, "--yes", "--who", "Ann Lee").returncode == 1  # nothing waits any more
    assert approve(prefect, landed, "--yes", "--who", "Ann Lee", "--version", "1").returncode == 0  # as was wanted


def test_a_challenger_meets_live_requests_before_it_serves(prefect, landed, world):
    """Shadow, then canary, then promotion, while a service with two workers is asked all the time."""
    weak = replace(small_bundle(), reason_codes=REASON_CODES.read_text("utf-8")).save(landed)
    promote(landed, weak.digest, who="a test", why="a model of other customers", now=available_at(world.snapshots[0]))
    rules = {
        "shadow_requests_min": 30,
        "canary_share": 0.5,
        "canary_requests_min": 30,
        "trial_timeout_h": 0.05,
        # The weak one is no measure for the other, and the machine is shared.
        "agreement_min": 0,
        "score_psi_max": 100,
        "latency_ratio_max": 100,
    }
    env = {"CHURN_HOME": str(landed), **{f"CHURN_ROLLOUT__{rule.upper()}": str(of) for rule, of in rules.items()}}
    # The service judges a canary too, by the same rules.
    settings = load_settings(home=landed, rollout=rules)
    manifest = published_snapshots(landed)[-1]
    snapshot = read_snapshot(landed, manifest, [CUSTOMER, LABEL])
    ids = snapshot.loc[~snapshot[LABEL].astype(bool), CUSTOMER].tolist()
    statuses = Counter()
    with Service(serving(settings, port=free_port(), workers=2)) as service, prefect.worker(**env):
        service.wait("/readyz", PATIENCE_S)
        run = prefect.start("retrain/weekly", now=at(world), report=False)
        for customer_id in itertools.cycle(ids):
            statuses[request_json(f"{service.base_url}/predict", {"customer_id": customer_id})[0]] += 1
            if sum(statuses.values()) % 50 == 0 and prefect.state(run).state.is_final():
                break
    done = prefect.state(run)
    assert done.state.is_completed(), done.state.message
    told = [(entry.action, entry.why) for entry in read_ledger(landed)]
    assert [action for action, _ in told] == ["promote", "shadow", "canary", "promote"], told
    assert read_rollout(landed).previous == weak.digest
    assert "live" in prefect.artifact("champion-challenger")
    assert set(statuses) == {200}, statuses


def test_two_retrainings_never_race(prefect, landed, world):
    with prefect.worker(CHURN_HOME=str(landed)), lease(landed, "retraining", "a test"):
        skipped = prefect.run("retrain/weekly", now=at(world), report=False)
        assert (skipped.state.name, skipped.state.is_completed()) == ("Skipped", True)
        assert "a test" in skipped.state.message
    assert not (landed / "mlflow").exists()


def test_stale_values_fail_the_hourly_look(prefect, landed, world):
    with prefect.worker(CHURN_HOME=str(landed), CHURN_MONITORING__FRESHNESS_MAX_H="1"):
        old = prefect.run("freshness/hourly")
    with prefect.worker(CHURN_HOME=str(landed)):
        young = prefect.run("freshness/hourly", now=at(world))
        unborn = prefect.run("freshness/hourly", now=(datetime.now(UTC) + timedelta(days=60)).isoformat())
    assert old.state.name == "Failed"
    assert "older than 1 h" in old.state.message
    assert unborn.state.name == "Failed"
    assert "after this machine's clock" in unborn.state.message
    assert young.state.is_completed(), young.state.message


def test_what_lies_in_the_inbox_and_is_not_landed_is_told(prefect, landed):
    """A folder as Spark leaves it half-written, and a name that says nothing: never "the inbox is empty"."""
    inbox = landed / "inbox"
    (inbox / "events_a.parquet" / "_temporary").mkdir(parents=True)
    (inbox / "events_a.parquet" / "part-0.parquet").touch()
    (inbox / "readme.txt").touch()
    with prefect.worker(CHURN_HOME=str(landed)):
        run = prefect.run("land/land-by-hand")
    # What lies there for any time at all lies there for too long.
    with prefect.worker(CHURN_HOME=str(landed), CHURN_MONITORING__INBOX_MAX_H="1e-9"):
        late = prefect.run("freshness/hourly")
    assert (run.state.name, run.state.is_completed()) == ("Left in the inbox", True)
    assert run.state.message == (
        "events_a.parquet (is not whole: it holds _temporary); readme.txt (its name does not say what it is)"
    )
    assert late.state.name == "Failed"
    assert "inbox (0 h); not landed: events_a.parquet (is not whole" in late.state.message


def left_behind(home, run):
    """The file of a run whose process is no more."""
    path = home / "runs" / f"{run.id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"host": "here", "pid": 1}')
    return path


@pytest.mark.parametrize(
    ("state", "becomes", "started_again"),
    [
        (Running, "Crashed", 1),
        # Made in the test: ten minutes after that the server itself fails it.
        (partial(Paused, timeout_seconds=600), "Crashed", 1),
        (Cancelling, "Cancelled", 0),
        # A person pressed Retry, or it ended well: what is left is an old file.
        (AwaitingRetry, "AwaitingRetry", 0),
        (Completed, "Completed", 0),
        (Failed, "Failed", 0),
    ],
    ids=["Running", "Paused", "Cancelling", "AwaitingRetry", "Completed", "Failed"],
)
def test_the_sweep_starts_again_what_died_and_nothing_else(prefect, tmp_path, state, becomes, started_again):
    with prefect.client() as client:
        run = prefect.start("score_base/monthly", now="2025-03-02T06:00:00+00:00")
        client.set_flow_run_state(run.id, left := state(), force=True)
        path = left_behind(tmp_path, run)
        before = {each.id for each in prefect.runs("score_base")}
        # Killed after it had asked for the new run: the next sweep asks again, for the same one.
        if started_again:
            sweep._start_again(client, client.read_flow_run(run.id), 5)
        sweep.mark_dead(client, tmp_path, rerun=True, attempts_max=5)
        assert client.read_flow_run(run.id).state.name == becomes
        new = [each for each in prefect.runs("score_base") if each.id not in before]
        assert len(new) == started_again
        for each in new:
            assert (each.parameters, set(each.tags)) == (run.parameters, {"churn", "attempt:2"})
            client.set_flow_run_state(each.id, Cancelled(), force=True)
        assert not path.exists()
        if not left.is_final():
            client.set_flow_run_state(run.id, Cancelled(), force=True)


def test_runs_of_others_on_the_same_server_are_left_alone(prefect, tmp_path):
    with prefect.client() as client:
        theirs = client.create_flow_run_from_deployment(
            client.read_deployment_by_name("monitor/daily").id, state=Scheduled()
        )
        client.update_flow_run(theirs.id, tags=["another team"])
        client.set_flow_run_state(theirs.id, Pending(), force=True)
        marked = sweep.mark_lost(client, tmp_path, timedelta(0))
        assert str(theirs.id) not in {each["flow_run"] for each in marked}
        assert client.read_flow_run(theirs.id).state.type.value == "PENDING"
        client.set_flow_run_state(theirs.id, Cancelled(), force=True)


def test_a_run_that_no_worker_began_is_marked(prefect, home):
    """The worker takes a run and dies before its process is there."""
    with prefect.client() as client:
        lost = prefect.start("monitor/daily")
        client.set_flow_run_state(lost.id, Pending(), force=True)
    with prefect.worker(CHURN_HOME=str(home)):
        swept = prefect.run("sweep/every-five-minutes", pending_max_minutes=0.001)
    assert swept.state.is_completed(), swept.state.message
    assert prefect.state(lost).state.name == "Crashed"
    assert lost.name in prefect.artifact("sweep")
