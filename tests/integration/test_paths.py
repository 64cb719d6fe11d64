"""A path is a name: whatever is in it, it is no pattern, no URL, no SQL and no partition."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FileSource
from sqlalchemy import create_engine, text

from configs.settings import PROJECT_ROOT, load_settings
from feature_repo.contract import CUSTOMER
from feature_repo.files.parquet_tables import folder_of
from feature_repo.stores.feature_store import sqlite_url
from feature_repo.stores.point_in_time.parquet_source import ParquetDataset
from tests.support.small_model import saved
from training.registry import known_digests, register, restore_bundle

NAME = f"we[i]r*d? %20#&';\"=ü {{y}} $x ~ {CUSTOMER}=5"


def test_a_home_of_any_name_goes_from_extract_to_score(tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.month_in_zone", str(tmp_path / NAME / "home")]
    (tmp_path / NAME).mkdir()
    done = subprocess.run(
        [*command, "publish", "materialize", "read"],
        cwd=PROJECT_ROOT,
        env=os.environ | {"TZ": "UTC"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(differing == 0 and customers for customers, _, differing in found["parity"].values())
    assert found["scores"]
    # A question mark that ends a URL's path leaves a file beside the home.
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_mlflows_database_and_files_lie_in_the_home(tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    settings = load_settings(home=tmp_path / NAME / "home")
    bundle, folder = saved(settings.home)
    training_rows, kept = pd.DataFrame({"x": [1.0]}), {"manifest": [folder / "manifest.json"]}
    made = register(settings, bundle, training_rows, params={}, metrics={}, tags={}, artifacts=kept)
    assert known_digests(settings) == {bundle.digest}
    shutil.rmtree(folder)
    assert restore_bundle(settings, made)
    assert folder.is_dir()
    assert (settings.home / "mlflow" / "mlflow.db").is_file()
    assert list((tmp_path / "cwd").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["cwd", NAME])


@pytest.mark.parametrize(
    "name", ["plain", "a[x]", "st*r", "qu?", "p%20c", "h#h", "s;c", "q'q", 'q"q', "sp ace", "ü", "a=1"]
)
class TestEachSign:
    def test_files_of_a_table(self, tmp_path, name):
        home, beside = tmp_path / name, tmp_path / name.translate(str.maketrans("*?", "yy")).replace("[x]", "x")
        for folder in (home, beside):
            (folder / "offline" / "t" / "day=1").mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({"n": [1]}), folder / "offline" / "t" / "day=1" / "p.parquet")
        for pattern in ("offline/t/*/*.parquet", "offline/t", f"{home}/offline/t/*/*.parquet"):
            (part,) = ParquetDataset.open(home, FileSource(name="t", path=pattern, timestamp_field="n")).fragments
            assert Path(part.path) == home / "offline" / "t" / "day=1" / "p.parquet"
        (part,) = ParquetDataset.open(
            home, FileSource(name="t", path="offline/t/*/*.parquet", timestamp_field="n")
        ).fragments
        assert part.partition == {"day": "1"}

    def test_the_folder_that_rows_are_appended_to(self, tmp_path, name):
        home = tmp_path / name
        assert folder_of(home / "offline/t/*.parquet", home) == home / "offline" / "t"
        assert folder_of(home / "offline/t", home) == home / "offline" / "t"

    def test_the_url_of_a_database(self, tmp_path, name):
        path = tmp_path / name / "x.db"
        path.parent.mkdir()
        engine = create_engine(sqlite_url(path))
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE t (n INTEGER)"))
        engine.dispose()
        assert path.is_file()
        assert [each.name for each in tmp_path.iterdir()] == [name]
