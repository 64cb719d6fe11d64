"""Who runs a command."""

import os
import pwd

from flows.current_user import current_user


def test_the_operator_has_a_name_even_without_an_account(monkeypatch):
    assert current_user() == pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_001)
    assert current_user() == "uid 2000000001"
