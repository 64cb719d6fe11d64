"""The key file: what a key is, what is kept of it, and every way in which the file may be spoilt."""

import json
import re
import stat
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from bentos.churn.auth.key_store import SIZE_MAX_BYTES, KeyFile, KeyFileError, keys_path, new_key, read_keys, write_keys

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def test_a_key_is_random_and_only_its_hash_is_kept():
    made = [new_key("crm", ("predict",), now=NOW, expires_at=None) for _ in range(100)]
    for entry, key in made:
        assert re.fullmatch(r"churn_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", key)
        assert key[6:14] == entry.id
        assert entry.sha256 == sha256(key.encode()).hexdigest()
        assert key[-43:] not in entry.model_dump_json()
    assert len({key[-43:] for _, key in made}) == 100


@pytest.mark.parametrize(
    ("expires", "revoked", "state"),
    [
        (None, None, "valid"),
        (timedelta(seconds=1), None, "valid"),
        (timedelta(0), None, "expired"),
        (timedelta(days=-1), None, "expired"),
        (None, timedelta(0), "revoked"),
        (timedelta(days=-1), timedelta(days=-2), "revoked"),
    ],
)
def test_a_key_is_valid_until_it_expires_or_is_revoked(expires, revoked, state):
    entry, _ = new_key("crm", ("predict",), now=NOW, expires_at=None)
    dates = {"expires_at": expires, "revoked_at": revoked}
    changed = entry.model_copy(update={name: None if each is None else NOW + each for name, each in dates.items()})
    assert changed.state(NOW) == state


def test_what_is_written_is_read_again_and_is_for_its_owner_alone(tmp_path):
    keys = KeyFile(keys=(new_key("crm", ("predict", "metrics"), now=NOW, expires_at=NOW + timedelta(days=1))[0],))
    path = tmp_path / "deep" / "keys.json"
    assert read_keys(path) == KeyFile()
    write_keys(path, keys)
    assert read_keys(path) == keys
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_where_the_file_lies(settings, tmp_path):
    def told(keys_file):
        return keys_path(
            settings.model_copy(update={"access": settings.access.model_copy(update={"keys_file": keys_file})})
        )

    assert told("") == settings.home / "keys.json"
    assert told("secrets/keys.json") == settings.home / "secrets" / "keys.json"
    assert told(str(tmp_path / "keys.json")) == tmp_path / "keys.json"


def entry(**changes):
    good = json.loads(new_key("crm", ("predict",), now=NOW, expires_at=None)[0].model_dump_json())
    return good | changes


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "its root"),
        ("[]", "its root"),
        ('{"version": 1, "keys": [', "its root"),
        ({"version": 2, "keys": []}, "version"),
        ({"version": 1, "keys": [], "more": 1}, "more"),
        ({"version": 1, "keys": [entry(id="crm")]}, "keys.0.id"),
        ({"version": 1, "keys": [entry(name="7590 VHVEG")]}, "keys.0.name"),
        ({"version": 1, "keys": [entry(rights=[])]}, "keys.0.rights"),
        ({"version": 1, "keys": [entry(rights=["all"])]}, "keys.0.rights"),
        ({"version": 1, "keys": [entry(sha256="SECRET")]}, "keys.0.sha256"),
        ({"version": 1, "keys": [entry(created_at="2026-11-01T00:00:00")]}, "keys.0.created_at"),
        ({"version": 1, "keys": [entry(), entry(key="SECRET")]}, "keys.1.key"),
        ({"version": 1, "keys": [entry(id="00000000"), entry(id="00000000")]}, "its root"),
    ],
)
def test_a_spoilt_file_is_refused_by_place_and_never_repeated(tmp_path, content, says):
    path = tmp_path / "keys.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(KeyFileError) as refused:
        read_keys(path)
    assert f"at {says}" in refused.value.message
    assert refused.value.exit_code == 2
    assert not any(value in refused.value.message for value in ("SECRET", "VHVEG"))


def test_a_file_has_a_size(tmp_path):
    path = tmp_path / "keys.json"
    path.write_bytes(b" " * (SIZE_MAX_BYTES + 1))
    with pytest.raises(KeyFileError, match="larger than 1 MiB"):
        read_keys(path)
    one, _ = new_key("crm", ("predict",), now=NOW, expires_at=None)
    many = KeyFile(keys=tuple(one.model_copy(update={"id": f"{number:08x}"}) for number in range(6000)))
    with pytest.raises(KeyFileError, match="would be larger"):
        write_keys(path, many)
    (tmp_path / "folder").mkdir()
    with pytest.raises(KeyFileError, match="can't be read"):
        read_keys(tmp_path / "folder")
