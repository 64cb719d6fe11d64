"""The demo's own API key: made only where one is needed, and gone however its use ends."""

from datetime import UTC, datetime, timedelta

import pytest

from bentos.churn.auth.key_admin import create_key, revoke_key
from bentos.churn.auth.key_store import keys_path, read_keys
from flows.demo.demo import KEY_NAME, own_key


def keys(settings):
    """(name, state) of each key."""
    return [(entry.name, entry.state(datetime.now(UTC))) for entry in read_keys(keys_path(settings)).keys]


def test_an_open_home_gets_no_key_for_the_first_one_would_close_it(settings):
    with own_key(settings) as key:
        assert key is None
    assert not keys_path(settings).exists()


@pytest.mark.parametrize("closed_by", ["a key", "a revoked key", "access.required", "serving.host"])
def test_where_keys_are_needed_one_is_made_and_revoked(settings, closed_by):
    if closed_by == "access.required":
        settings = settings.model_copy(update={"access": settings.access.model_copy(update={"required": True})})
    elif closed_by == "serving.host":
        elsewhere = settings.serving.model_copy(update={"host": "10.0.0.5"})
        settings = settings.model_copy(update={"serving": elsewhere})
    else:
        entry, _ = create_key(settings, "crm", ["predict"], now=datetime.now(UTC), who="tests")
        if closed_by == "a revoked key":
            revoke_key(settings, entry.id, now=datetime.now(UTC), who="tests")
    before = keys(settings)
    with own_key(settings) as key:
        assert key.startswith("churn_")
        assert keys(settings) == [*before, (KEY_NAME, "valid")]
        made = read_keys(keys_path(settings)).keys[-1]
        assert made.rights == ("predict",)
        # Whoever is killed leaves one behind that ends by itself.
        assert made.expires_at == made.created_at + timedelta(days=1)
    assert keys(settings) == [*before, (KEY_NAME, "revoked")]


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_the_key_is_revoked_however_its_use_ends(settings, end):
    create_key(settings, "crm", ["predict"], now=datetime.now(UTC), who="tests")
    with pytest.raises(end), own_key(settings):
        raise end
    assert keys(settings) == [("crm", "valid"), (KEY_NAME, "revoked")]
