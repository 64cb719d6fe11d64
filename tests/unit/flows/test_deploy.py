"""What deploying needs no registry for; the rest is in tests/integration/test_retraining.py."""

from __future__ import annotations

import os
import pwd

from configs.settings import load_settings
from flows.deploy import operator, sync_aliases


def test_the_operator_has_a_name_even_without_an_account(monkeypatch):
    assert operator() == pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_001)
    assert operator() == "uid 2000000001"


def test_without_a_champion_mlflow_is_not_asked(tmp_path):
    assert sync_aliases(load_settings(home=tmp_path)) == {}
    assert list(tmp_path.iterdir()) == []
