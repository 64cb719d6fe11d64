"""The home of an earlier version, cut to what a later one must still open: made once, kept as a file.

The kept file was made at commit 6cb4fae. To make one, run this file with another checkout as working directory:
``python …/tests/support/kept_home.py FOLDER`` writes ``FOLDER/kept_home.tar.gz`` from a simulated base of four months,
a model of one trial, and the answers for three customers. It calls the command line and the service alone, whose
addresses stay. Kept are the bundles with pointer and ledger, the model as MLflow stores it (without its second copy of
the bundle), the registry, the receipts, and those customers' rows of the online store. It is made anew if
the version of the feature service that its bundle reads leaves the contract.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("kept_home.tar.gz")
ANSWERS = "answers.json"
BUNDLE = "artifacts/bundle"
"""Of a stored model: where MLflow puts its copy."""
_PORT = 3907
_CUSTOMERS = 3


def unpack(folder: Path) -> Path:
    """Return the kept home, unpacked into ``folder``; each stored model has its copy of the champion's bundle."""
    with tarfile.open(FILE) as kept:
        kept.extractall(folder, filter="data")
    champion = json.loads((folder / "bundles" / "champion.json").read_text())["digest"]
    for model in stored_models(folder):
        shutil.copytree(folder / "bundles" / champion, model / BUNDLE)
    return folder


def stored_models(home: Path) -> list[Path]:
    """Return the folders that ``mlflow.pyfunc.load_model`` takes."""
    return [path.parent for path in home.glob("mlflow/artifacts/models/*/artifacts/MLmodel")]


def make(folder: Path) -> None:
    """Live four months with the version of the checkout, ask for some customers, and keep what a later one opens."""
    home, world = folder / "home", folder / "world"
    environ = {**os.environ, "CHURN_HOME": str(home), "CHURN_TRAINING__TRIALS": "1", "CHURN_TRAINING__FOLDS": "3"}

    def churn(*words: str) -> None:
        code = "from flows.cli import main; main()"
        subprocess.run([sys.executable, "-c", code, *words], env=environ, check=True)

    first = (datetime.now(UTC) - timedelta(days=91)).date()
    churn("simulate", "--customers", "400", "--months", "4", "--start", str(first), "--no-jsonl", "--out", str(world))
    for month in sorted((world / "months").iterdir()):
        churn("ingest", "--csv", str(month / "telco.csv"), "--as-of", month.name)
    for file in sorted((world / "events").glob("*.parquet")):
        churn("ingest-events", "--file", str(file))
    for command in ("build-features", "apply", "train", "materialize"):
        churn(command)
    newest = max((world / "months").iterdir()) / "telco.csv"
    ids = [line.partition(",")[0] for line in newest.read_text().splitlines()[1:]]
    answers = _answers(environ, ids)
    (home / ANSWERS).write_text(json.dumps(answers, indent=1))
    pack(home, [each["customer_id"] for each in answers], folder / FILE.name)


def _answers(environ: dict[str, str], ids: list[str]) -> list[dict]:
    code = "from flows.cli import main; main()"
    words = [sys.executable, "-c", code, "serve", "--port", str(_PORT)]
    with subprocess.Popen(words, env=environ) as service:
        try:
            while not _asked("/readyz"):
                assert service.poll() is None, "the service ended"
            found = (_asked("/predict", {"customer_id": each}) for each in ids)
            return [answer for answer, _ in zip(filter(None, found), range(_CUSTOMERS), strict=False)]
        finally:
            service.terminate()


def _asked(path: str, body: dict | None = None) -> dict | None:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{_PORT}{path}", content, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
            return json.load(answer)
    except (urllib.error.URLError, ConnectionError):
        return None


def pack(home: Path, ids: list[str], target: Path) -> None:
    """Write what is kept of ``home`` as ``target``; of the online store the rows of ``ids``.

    The models' descriptions are written without the folder that they were made in. The registry keeps it: the functions
    of its on-demand views hold the paths of their source files.
    """
    online = home / "feast" / "online.db"
    with closing(sqlite3.connect(online, isolation_level=None)) as store:
        tables = store.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'churn_%'").fetchall()
        others = " AND ".join(["instr(entity_key, CAST(? AS BLOB)) = 0"] * len(ids))
        for (table,) in tables:
            store.execute(f"DELETE FROM {table} WHERE {others}", ids)  # noqa: S608 - our names
        store.execute("VACUUM")
    for model in stored_models(home):
        description = model / "MLmodel"
        description.write_text(_without_places(description.read_text()))
    kept = [
        home / ANSWERS,
        *(path for path in (home / "bundles").rglob("*") if path.is_file()),
        *(path for path in (home / "ledger").rglob("*") if path.is_file()),
        *(path for path in (home / "receipts").rglob("*") if path.is_file()),
        home / "feast" / "registry.db",
        online,
        *(path for each in stored_models(home) for path in each.iterdir() if path.is_file()),
    ]
    with tarfile.open(target, "w:gz", format=tarfile.PAX_FORMAT) as file:
        for path in sorted(kept):
            entry = file.gettarinfo(path, str(path.relative_to(home)))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            with path.open("rb") as content:
                file.addfile(entry, content)


def _without_places(text: str) -> str:
    # MLflow's loader looks beside the file for all three.
    description = yaml.safe_load(text)
    description["artifact_path"] = "artifacts"
    flavor = description["flavors"]["python_function"]
    flavor["model_code_path"] = "mlflow_model.py"
    flavor["artifacts"]["bundle"]["uri"] = BUNDLE
    return yaml.safe_dump(description)


if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve())
