"""Row 65 of the fault catalogue: a home restored, replaced or removed under a running service."""

import shutil
from datetime import UTC, datetime

import httpx

from bentos.rollout.rollout import promote
from flows.service_process import ServiceProcess, free_port
from tests.support.patience import until
from tests.support.serving_home import another, build, serving


def test_65_a_home_restored_under_a_service_is_noticed(tmp_path, telco_csv):
    home = tmp_path / "home"
    world = build(home, telco_csv, None)
    customer = world.ids[0]
    shutil.copytree(home, tmp_path / "backup")
    with ServiceProcess(serving(world.settings, port=free_port())) as running:
        running.wait("/readyz", 300)

        def ask():
            return httpx.post(f"{running.base_url}/predict", json={"customer_id": customer}, timeout=60)

        def ready():
            return httpx.get(f"{running.base_url}/readyz", timeout=60)

        first = ask().json()["probability"]
        # The online store alone is removed: no answer comes from the deleted file, from the very next request on.
        online = home / "feast" / "online.db"
        online.unlink()
        refused = ask()
        assert refused.status_code == 503
        assert "was removed while it was in use" in refused.json()["message"] or refused.json()["error"] == "home_lost"
        until(ready, lambda found: found.status_code == 503)
        # It comes back as another file: the service goes on by itself.
        shutil.copy(tmp_path / "backup" / "feast" / "online.db", online)
        until(ready, lambda found: found.status_code == 200)
        assert ask().json()["probability"] == first
        # The whole home is another one, with another champion.
        shutil.copytree(tmp_path / "backup", tmp_path / "other")
        other = another(world.bundle, tmp_path / "other", "test-2", 1.0)
        promote(tmp_path / "other", other.digest, who="tests", why="another home", now=datetime.now(UTC))
        home.rename(tmp_path / "gone")
        lost = until(ready, lambda found: found.status_code == 503)
        assert lost.json()["hint"]
        assert ask().status_code == 503
        assert not home.exists()
        (tmp_path / "other").rename(home)
        until(ready, lambda found: found.status_code == 200 and found.json()["model_version"] == "test-2")
        assert ask().json()["probability"] > first
        # What was counted lies in files that are gone with the first home.
        metrics = httpx.get(f"{running.base_url}/metrics", timeout=60)
        assert (metrics.status_code, metrics.json()["error"]) == (503, "metrics_lost")
