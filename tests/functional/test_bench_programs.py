"""The programs that measure the service: they run, count right and write their tables. No figure is judged here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import psutil
import pytest

from configs.settings import PROJECT_ROOT
from tests.bench.record import DOCUMENT, Record, report
from tests.bench.serving import over_http, tables
from tests.bench.serving.load import Load, driven


class _Sound(BaseHTTPRequestHandler):
    """Always speaks of customer a."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "9")
        self.end_headers()
        self.wfile.write(b'{"id":"a"')

    def log_message(self, *_):
        """Say nothing."""


class _Answers(_Sound):
    """Every fifth answer is a 503, and instead of every tenth the connection ends."""

    count = 0

    def do_POST(self):
        type(self).count += 1
        self.rfile.read(int(self.headers["content-length"]))
        if self.count % 10 == 0:
            self.close_connection = True
        else:
            self.answer(200 if self.count % 5 else 503)


class _FailsOnce(_Sound):
    """Answers the first request of its second connection with a 500: in the first round after the warm-up."""

    connections = 0

    def setup(self):
        type(self).connections += 1
        self.status = 500 if self.connections == 2 else 200
        super().setup()

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(self.status)
        self.status = 200


class _Fails(_Sound):
    """Answers everything with a 500."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(500)


@contextmanager
def answers(kind):
    """The port of a server that answers so."""
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def answering():
    with answers(_Answers) as port:
        yield port


@pytest.fixture
def sound():
    with answers(_Sound) as port:
        yield port


@pytest.fixture
def failing():
    with answers(_Fails) as port:
        yield port


@pytest.fixture
def failing_once(monkeypatch):
    monkeypatch.setattr(_FailsOnce, "connections", 0)
    with answers(_FailsOnce) as port:
        yield port


ASKED = SimpleNamespace(ids=("a",), headers={})
GONE = "a server that is not there"


def compete(given, contenders):
    """Measure contenders over HTTP as a bench does; returns its exit code, what it kept, and the document's section."""

    def measured(record):
        with over_http.started(record, GONE):
            raise RuntimeError("the server ended with code 3 at its start")
        asked = {"shapes": (over_http.ONE,), "rounds": 2, "seconds": 0.2, "cores": []}
        found = over_http.measure(contenders, ASKED, record, **asked)
        return tables.http(over_http.ONE, found[over_http.ONE])

    code = report("bench-tested", given, measured)
    return code, [json.loads(line) for line in given.keep.read_text().splitlines()], given.document.read_text()


def contender(name, port, *, ours=False):
    return over_http.Contender(name, port, psutil.Process(), ours=ours)


@pytest.fixture
def given(tmp_path):
    document = tmp_path / "performance.md"
    document.write_text("# Performance\n")
    return SimpleNamespace(keep=tmp_path / "kept" / "figures.jsonl", write=True, document=document)


def test_a_peer_that_fails_is_a_row_that_says_so(given, sound, failing, failing_once, capsys):
    peers = [
        contender(over_http.OURS, sound, ours=True),
        contender(over_http.USUAL, failing),
        contender(over_http.TUNED, failing_once),
    ]
    code, kept, document = compete(given, peers)
    assert code == 0
    failed = Counter(each["contender"] for each in kept if each["why"])
    assert failed == {over_http.USUAL: 3, over_http.TUNED: 1, GONE: 1}
    # It costs no other its rounds.
    measured = Counter(each["contender"] for each in kept if not each["why"])
    assert measured == {over_http.OURS: 3, over_http.TUNED: 2}
    assert f"| {over_http.USUAL}: **failed** | - | - | - | - | - |" in document
    assert f"| {over_http.TUNED} (failed in 1 of 2 rounds) | " in document
    assert f"| {GONE}: **failed** | - |" in document
    assert f"| {GONE} | start | RuntimeError: the server ended with code 3 at its start |" in document
    assert re.search(rf"^\| {over_http.OURS} \| \d", document, re.MULTILINE)
    assert re.search(r"round 1 of 2 \| RuntimeError: answers (\d+ x 200, )?1 x 500; lost 0", document)
    assert f"{over_http.USUAL}, {over_http.ONE.title}, round 1 of 2: FAILED: " in capsys.readouterr().out


def test_ours_failing_is_an_error_at_the_end_and_costs_no_peer_its_figures(given, sound, failing, capsys):
    before = given.document.read_text()
    peers = [contender(over_http.OURS, failing, ours=True), contender(over_http.USUAL, sound)]
    code, kept, document = compete(given, peers)
    assert code == 1
    assert sum(each["contender"] == over_http.USUAL and not each["why"] for each in kept) == 3
    told = capsys.readouterr()
    assert re.search(rf"^\| {over_http.USUAL} \| \d", told.out, re.MULTILINE)
    assert f"error: {over_http.OURS}, {over_http.ONE.title}, round 1 of 2: FAILED: " in told.err
    assert document == before  # figures of a run in which ours failed are no documentation


def test_what_was_measured_before_a_bench_broke_is_shown(given, capsys):
    def measured(record):
        record.attempt("a peer", "its turn", lambda: {"ms": 7})
        raise MemoryError("no room")

    assert report("bench-tested", given, measured) == 1
    told = capsys.readouterr()
    assert "a peer, its turn: {'ms': 7}" in told.out
    assert "error: the bench, bench-tested: FAILED: MemoryError: no room" in told.err
    assert len(given.keep.read_text().splitlines()) == 2


def test_a_measuring_program_that_dies_leaves_what_it_had_told():
    entry = json.dumps({"contender": "a", "what": "b", "figures": 1})
    program = f"import os; print({entry!r}, flush=True); os._exit(9)"
    record = Record(lambda _entry: None)
    first, last = record.follow([sys.executable, "-c", program])
    assert (first.contender, first.figures, first.ours) == ("a", 1, False)
    assert (last.why, last.ours) == ("ended with code 9", True)
    assert record.exit_code() == 1


def broken_package(folder, name):
    """A package that can't be imported, in a folder for PYTHONPATH."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("raise ImportError('broken on purpose')")
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.mark.full
@pytest.mark.parametrize(
    ("package", "code", "failed", "measured"),
    [
        ("polars", 0, ["Polars"], ["ours", "Feast duckdb", "Feast dask", "DuckDB ASOF", "arg_max"]),
        ("duckdb", 1, ["ours", "Feast duckdb", "DuckDB ASOF", "arg_max"], ["Feast dask", "Polars"]),
    ],
)
def test_a_join_that_fails_costs_the_others_nothing(tmp_path, package, code, failed, measured):
    keep = tmp_path / "figures.jsonl"
    done = subprocess.run(
        [sys.executable, "tests/bench/pit.py", "--quick", "--keep", str(keep)],
        cwd=PROJECT_ROOT,
        env=broken_package(tmp_path / "packages", package),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    kept = [json.loads(line) for line in keep.read_text().splitlines()]
    assert [each["contender"] for each in kept if each["why"]] == failed
    assert [each["contender"] for each in kept if not each["why"]] == measured
    for name in failed:
        assert f" | {name} | failed |" in done.stdout
    assert done.stdout.count("broken on purpose") >= len(failed)


def test_the_load_generator_counts_what_is_answered_lost_and_wrong(answering):
    bodies = ['{"customer_id": "a"}', '{"customer_id": "b"}']
    figures = driven(Load(answering, "/predict", bodies=bodies, marks=['"a"', '"b"'], clients=1, count=100))
    assert (figures.answers, figures.lost) == (90, 10)
    assert figures.statuses == {"200": 80, "503": 10}
    # Whoever asks for b is told of a: fifty requests, of which ten were lost.
    assert figures.wrong == 40
    assert 0 < figures.p50_ms <= figures.p99_ms <= figures.max_ms


def run(tmp_path, program, *arguments):
    """Run a program on little of everything; return the document that it wrote into."""
    document = tmp_path / "performance.md"
    shutil.copy(DOCUMENT, document)
    words = [sys.executable, f"tests/bench/{program}.py", "--quick", "--write", "--document", str(document), *arguments]
    done = subprocess.run(words, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return document.read_text()


def test_explanations_are_measured_and_written(tmp_path):
    written = run(tmp_path, "serve", "--parts", "shap")
    assert "| 20, depth 5 | tables, two threads |" in written
    assert written.count("<!-- bench-shap -->") == 1
    # What other programs wrote stays.
    assert "<!-- bench-pit -->" in written
    assert "<!-- bench-materialize -->" in written


def test_bodies_are_checked_and_written(tmp_path):
    written = run(tmp_path, "serve", "--parts", "bodies")
    for way in ("ours, in 2 threads", "on the loop"):
        assert len(re.findall(rf"\| {way} \| [\d.,]+ \(", written)) == 2
    assert written.count("<!-- bench-bodies -->") == 1
    assert "<!-- bench-serve -->" in written


@pytest.mark.nightly
def test_starts_are_measured_and_written(tmp_path):
    written = run(tmp_path, "start")
    for what in ("`churn history`", "completion of `churn pro`", "flow `sweep`", "Feast as it comes"):
        assert re.search(rf"\| {what} \| [\d.]+ \|", written)
    assert written.count("<!-- bench-start -->") == 1
    assert "<!-- bench-pit -->" in written


@pytest.mark.nightly
def test_serving_is_measured_and_written(tmp_path):
    written = run(tmp_path, "serve")
    for server in ("ours, one worker", "the usual way", "floor: bare uvicorn"):
        assert written.count(f"| {server} |") >= 2
    assert "| features, score and reasons over raw `HMGET` + bare predict, one customer |" in written


@pytest.mark.nightly
def test_a_long_run_loses_nothing_and_is_written(tmp_path):
    written = run(tmp_path, "soak")
    assert "lost requests 0; other statuses than 200: 0; wrong customers: 0." in written
    assert " 0 dropped " in written
