"""The programs that measure the service: they run, count right and write their tables. No figure is judged here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from configs.settings import PROJECT_ROOT
from tests.bench.serve import DOCUMENT
from tests.bench.serving.load import Load, driven


class _Answers(BaseHTTPRequestHandler):
    """Always speaks of customer a; every fifth answer is a 503, and instead of every tenth the connection ends."""

    protocol_version = "HTTP/1.1"
    count = 0

    def do_POST(self):
        type(self).count += 1
        self.rfile.read(int(self.headers["content-length"]))
        if self.count % 10 == 0:
            self.close_connection = True
            return
        self.send_response(200 if self.count % 5 else 503)
        self.send_header("content-length", "9")
        self.end_headers()
        self.wfile.write(b'{"id":"a"')

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def answering():
    """The port of a server that answers so."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


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
