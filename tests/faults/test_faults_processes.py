"""Rows of the fault catalogue about processes: a start in vain, a parent that dies, a terminal that hangs up."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from configs.errors import ChurnError
from configs.settings import PROJECT_ROOT, load_settings
from feature_repo.files.regular_files import open_lock
from feature_repo.stores.registration import apply
from flows.listen_address import PortTakenError, refuse_taken_port
from flows.orphan_processes import VARIABLE, kill_orphans
from flows.service_process import ServiceProcess, command, free_port
from flows.service_process import service_environment as serving_environment
from tests.support.patience import until
from tests.support.serving_home import serving

CHURN = str(Path(sys.executable).with_name("churn"))
PASSWORD = "pa55-w0rd-of-the-registry"  # noqa: S105 - of no server
RUNS = """
import sys, time
from configs.settings import load_settings
from flows.service_process import ServiceProcess
with ServiceProcess(load_settings()) as running:
    running.wait("/livez", 300)
    print("up", flush=True)
    time.sleep(3600)
"""
WAITS = """
import time
from flows.cli import commands, main
commands.cli.callback = lambda **_: (print("in", flush=True), time.sleep(3600))
main(["apply"])
"""
STARTS = """
import os, subprocess, sys, time
from flows.orphan_processes import kill_orphans
kill_orphans(os.environ)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(3600)
"""


def listens(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).status_code > 0
    except httpx.TransportError:
        return False


def is_free(port):
    try:
        refuse_taken_port("127.0.0.1", port)
    except ChurnError:
        return False
    return True


def has_ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def environment(home, port, **more):
    return {**os.environ, "CHURN_HOME": str(home), "CHURN_SERVING__PORT": str(port), **more}


def start(words, env, tmp_path):
    with (tmp_path / f"said-{words[1]}.txt").open("ab") as said:
        return subprocess.Popen(words, env=env, stdout=said, stderr=said, cwd=tmp_path)


@pytest.fixture
def service(tmp_path, port):
    """`churn serve` in the foreground, without a champion; two workers."""
    process = start([CHURN, "serve"], environment(tmp_path / "home", port, CHURN_SERVING__WORKERS="2"), tmp_path)
    try:
        until(lambda: listens(port))
        yield process
    finally:
        process.kill()
        process.wait()
        until(lambda: is_free(port))


def test_61_a_second_start_on_a_taken_port_is_one_line_and_changes_nothing(tmp_path, service, port):
    def counted():
        found = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
        lines = (each for each in found.splitlines() if each.startswith("churn_requests_total"))
        return sum(float(each.rpartition(" ")[2]) for each in lines)

    before = counted()
    files = sorted((tmp_path / "home" / "bentoml" / str(port)).rglob("*.db"))
    # From its own home, and from another one.
    for home in ("home", "other"):
        second = subprocess.run(
            [CHURN, "serve"], env=environment(tmp_path / home, port), capture_output=True, text=True, check=False
        )
        assert second.returncode == 1
        assert second.stderr.splitlines() == [
            f"error: port {port} of 127.0.0.1 is taken: another process listens there",
            "hint: stop that one, or choose another port with --port",
        ]
    assert counted() > before > 0
    assert set(files) <= set((tmp_path / "home" / "bentoml" / str(port)).rglob("*.db"))


FULL = pytest.mark.full


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(each, marks=FULL) for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT))],
)
def test_64_a_service_leaves_no_worker_and_its_port_however_it_ends(service, port, number):
    workers = psutil.Process(service.pid).children(recursive=True)
    assert len(workers) >= 2
    service.send_signal(number)
    service.wait(120)
    for each in workers:
        until(lambda pid=each.pid: has_ended(pid))
    assert is_free(port)


def test_64_a_service_beside_us_ends_with_us(tmp_path, port):
    env = environment(tmp_path / "home", port)
    with subprocess.Popen([sys.executable, "-c", RUNS], env=env, cwd=PROJECT_ROOT, stdout=subprocess.PIPE) as ours:
        assert ours.stdout.readline() == b"up\n"
        ours.kill()
    until(lambda: is_free(port))


def test_64_what_a_library_started_ends_with_the_command(tmp_path):
    with subprocess.Popen([sys.executable, "-c", STARTS], cwd=PROJECT_ROOT, stdout=subprocess.PIPE) as command:
        child = int(command.stdout.readline())
        assert not has_ended(child)
        command.kill()
    until(lambda: has_ended(child))


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    home = tmp_path_factory.mktemp("registered")
    apply(load_settings(home=home))
    return home


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, *(pytest.param(each, marks=FULL) for each in (signal.SIGTERM, signal.SIGHUP))]
)
def test_64_feasts_server_ends_with_its_command_and_its_secrets_lie_in_no_file(
    tmp_path, registered, redis_server, number
):
    port, temporary = free_port(), tmp_path / "tmp"
    temporary.mkdir()
    env = environment(
        registered,
        free_port(),
        TMPDIR=str(temporary),
        CHURN_FEAST__ONLINE_STORE="redis",
        CHURN_FEAST__REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{redis_server}/0",
    )
    process = start([CHURN, "feast", "serve", "--port", str(port)], env, tmp_path)
    try:
        until(lambda: listens(port))
        started = psutil.Process(process.pid).children(recursive=True)
        for file in (each for folder in (temporary, registered) for each in folder.rglob("*") if each.is_file()):
            assert PASSWORD.encode() not in file.read_bytes(), file
        process.send_signal(number)
        process.wait(120)
        for each in started:
            until(lambda pid=each.pid: has_ended(pid))
        assert is_free(port)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "words", [["serve", "-p"], ["ui", "--port"], ["serve_offline", "--port"], ["serve_registry", "-p"]]
)
def test_61_feasts_servers_say_in_one_line_that_a_port_is_taken(tmp_path, words):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused = subprocess.run(
            [CHURN, "feast", *words, str(port)],
            env=environment(tmp_path / "home", port),
            capture_output=True,
            text=True,
            check=False,
        )
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: port {port} of ")
    assert len(refused.stderr.splitlines()) == 2


def test_61_a_second_host_on_the_port_of_a_home_is_told_what_has_it(tmp_path, port):
    settings = serving(load_settings(home=tmp_path), port=port)
    second = settings.model_copy(update={"serving": settings.serving.model_copy(update={"host": "localhost"})})
    lock = tmp_path / "bentoml" / f"{port}.lock"
    lock.parent.mkdir()
    with open_lock(lock) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(PortTakenError, match=f"port {port} is taken: another service of this home"):
            ServiceProcess(second)
    with ServiceProcess(second) as running:
        running.wait("/livez", 300)


def test_64_the_watcher_of_a_command_in_a_command_has_no_mark(monkeypatch):
    monkeypatch.setenv(VARIABLE, "of the command around this one")
    given = dict(os.environ)
    with kill_orphans(given) as watch:
        # The process is there a moment before its environment is.
        marked = until(psutil.Process(watch.pid).environ, lambda found: "PATH" in found)
        watch.kill()
    assert VARIABLE not in marked
    assert given[VARIABLE] != os.environ[VARIABLE]


@pytest.fixture
def hang_ups():
    """Hang-ups are not ignored, as they are below nohup: commands inherit that, and go on."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hang_ups")
def test_61_a_hang_up_ends_a_command_as_an_interrupt_does(tmp_path):
    words = [sys.executable, "-c", WAITS]
    for number in (signal.SIGTERM, signal.SIGHUP):
        env = environment(tmp_path, 1)
        with subprocess.Popen(words, env=env, cwd=PROJECT_ROOT, stdout=-1, stderr=-1, text=True) as command:
            assert command.stdout.readline() == "in\n"
            command.send_signal(number)
            assert command.wait(60) == 128 + number
            assert command.stderr.read() == "interrupted\n"


def test_61_a_running_service_is_not_started_beside_itself(tmp_path, port):
    settings = serving(load_settings(home=tmp_path), port=port)
    with ServiceProcess(settings) as running:
        running.wait("/livez", 300)
        with pytest.raises(ChurnError, match=f"port {port} of 127.0.0.1 is taken"):
            ServiceProcess(settings)
        assert httpx.get(f"{running.base_url}/livez", timeout=30).status_code == 200
    with ServiceProcess(settings) as again:
        again.wait("/livez", 300)


@pytest.mark.parametrize("inherited", [False, True], ids=["clean shell", "a folder in the environment"])
def test_61_a_start_by_hand_on_a_taken_port_takes_no_metrics_away(tmp_path, port, monkeypatch, inherited):
    """`bentoml serve` as a person types it: the same folder of BentoML, and nobody who asks for the port first."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    if inherited:  # importing feast.metrics sets it
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    settings = serving(load_settings(home=tmp_path), port=port)
    left = tmp_path / "bentoml" / str(port) / "prometheus_multiproc_dir" / f"{socket.gethostname()}-99999999"
    left.mkdir(parents=True)  # of a process that was killed
    with ServiceProcess(settings) as running:
        running.wait("/livez", 300)
        assert not left.exists()
        in_vain = subprocess.run(
            command(settings),
            env=serving_environment(settings),
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert "Address already in use" in in_vain.stdout + in_vain.stderr
        metrics = httpx.get(f"{running.base_url}/metrics", timeout=30)
        assert (metrics.status_code, "churn_requests_total" in metrics.text) == (200, True)
