"""Making, showing and revoking keys, as functions and at the command line."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from bentos.churn.auth.audit_log import (
    AuditRecord,
    Grant,
    KeyAuditBrokenError,
    Refusals,
    append_record,
    audit_path,
    read_entries,
)
from bentos.churn.auth.key_admin import (
    KeyNameError,
    KeyUnknownError,
    RevocationUnrecordedError,
    audit_keys,
    create_key,
    format_entry,
    format_keys,
    revoke_key,
)
from bentos.churn.auth.key_store import SIZE_MAX_BYTES, KeyFile, KeyFileError, keys_path, new_key, read_keys, write_keys
from configs.settings import load_settings
from feature_repo.files.atomic_writes import StorageError
from feature_repo.files.locks import LeaseHeldError, lease
from flows.cli import main
from flows.current_user import current_user

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def test_two_keys_of_one_name_are_rotation(settings):
    old, old_key = create_key(settings, "crm", ["receipts", "predict", "predict"], now=NOW, days=90, who="tests")
    new, new_key = create_key(settings, "crm", ["predict"], now=NOW, who="tests")
    assert old_key != new_key
    assert old.rights == ("predict", "receipts")
    assert old.expires_at == NOW + timedelta(days=90)
    gone = revoke_key(settings, old.id, now=NOW + timedelta(hours=1), who="tests")
    assert gone.revoked_at == NOW + timedelta(hours=1)
    assert revoke_key(settings, old.id, now=NOW + timedelta(hours=2), who="tests") == gone
    assert read_keys(keys_path(settings)).keys == (gone, new)


def test_the_list_shows_states_and_no_secret(settings):
    assert format_keys(settings, NOW) == ["id  name  state  rights  made  expires"]
    entry, key = create_key(settings, "crm", ["predict", "metrics"], now=NOW, days=1, who="tests")
    assert format_keys(settings, NOW)[1].split() == [
        *(entry.id, "crm", "valid", "predict,metrics", "2026-11-01", "12:00", "2026-11-02", "12:00")
    ]
    assert " expired " in format_keys(settings, NOW + timedelta(days=1))[1]
    assert key[-43:] not in "\n".join(format_keys(settings, NOW))
    assert entry.sha256 not in "\n".join(format_keys(settings, NOW))


@pytest.mark.parametrize("name", ["", "-x", "two words", "7590-VHVEG\n", "a" * 65, "ключ"])
def test_a_name_can_be_shown_anywhere(settings, name):
    with pytest.raises(KeyNameError) as refused:
        create_key(settings, name, ["predict"], now=NOW, who="tests")
    assert refused.value.exit_code == 2
    assert not keys_path(settings).exists()


def test_what_can_not_be_changed_stays_as_it_is(settings):
    create_key(settings, "crm", ["predict"], now=NOW, who="tests")
    path = keys_path(settings)
    before = path.read_bytes()
    with pytest.raises(KeyUnknownError):
        revoke_key(settings, "00000000", now=NOW, who="tests")
    with lease(settings.home, "key-change", "another"), pytest.raises(LeaseHeldError):
        create_key(settings, "crm", ["predict"], now=NOW, who="tests")
    assert path.read_bytes() == before
    path.write_bytes(before[:-5])
    with pytest.raises(KeyFileError):
        create_key(settings, "crm", ["predict"], now=NOW, who="tests")
    assert path.read_bytes() == before[:-5]


def churn(capsys, *words):
    """(exit code, output, errors) of `churn keys …`."""
    with pytest.raises(SystemExit) as ended:
        main(["keys", *words])
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


def test_the_command_line_prints_a_key_once_and_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path))
    code, key, told = churn(capsys, "create", "--name", "crm", "--right", "predict", "--right", "receipts")
    (entry,) = read_keys(keys_path(load_settings())).keys
    assert (code, key.strip()[6:14], key.count("\n")) == (0, entry.id, 1)
    assert f"key {entry.id} of crm may predict, receipts; never expires; not shown again" in told
    assert key.strip() not in told
    code, output, _ = churn(capsys, "list")
    assert code == 0
    assert entry.id in output
    assert churn(capsys, "revoke", entry.id)[:2][0] == 0
    assert churn(capsys, "revoke", "nobody")[0] == 1
    assert churn(capsys, "create", "--name", "crm")[0] == 2
    assert churn(capsys, "create", "--name", "crm", "--right", "all")[0] == 2
    assert churn(capsys, "create", "--name", "crm", "--right", "predict", "--days", "0")[0] == 2


def happened(settings):
    return [(event.action, event.key_id, event.name, event.who) for event in read_entries(audit_path(settings))]


def test_each_change_is_in_the_audit_with_who_made_it_and_no_secret(settings):
    entry, key = create_key(settings, "crm", ["predict"], now=NOW, who="ann")
    other, _ = create_key(settings, "web", ["predict"], now=NOW, who="tests")
    for _ in range(2):  # the second time it is revoked already
        revoke_key(settings, entry.id, now=NOW, who="bob")
    with pytest.raises(KeyUnknownError):
        revoke_key(settings, "00000000", now=NOW, who="tests")
    assert happened(settings) == [
        ("created", entry.id, "crm", "ann"),
        ("created", other.id, "web", "tests"),
        ("revoked", entry.id, "crm", "bob"),
    ]
    text = audit_path(settings).read_text()
    assert [secret for secret in (key, key[-43:], entry.sha256, str(settings.home)) if secret in text] == []
    found = audit_keys(settings, 1)
    assert ([event.action for event in found.entries], found.unknown, found.unrecorded) == (["revoked"], (), ())


def test_no_key_is_made_that_the_audit_could_not_take(settings):
    create_key(settings, "crm", ["predict"], now=NOW, who="tests")
    path, folder = keys_path(settings), audit_path(settings).parent
    before = path.read_bytes()
    audit_path(settings).write_bytes(b"")
    with pytest.raises(KeyAuditBrokenError):
        create_key(settings, "web", ["predict"], now=NOW, who="tests")
    shutil.rmtree(folder)
    folder.write_text("a file where the folder should be")
    with pytest.raises(StorageError):
        create_key(settings, "web", ["predict"], now=NOW, who="tests")
    assert path.read_bytes() == before


def test_an_entry_without_its_key_is_one_that_never_worked(settings):
    many = [new_key("x" * 64, ("predict",), now=NOW, expires_at=None)[0] for _ in range(4000)]
    one, two = (len(KeyFile(keys=tuple(many[:keys])).model_dump_json(indent=1)) for keys in (1, 2))
    full = 1 + (SIZE_MAX_BYTES - 1 - one) // (two - one)
    write_keys(keys_path(settings), KeyFile(keys=tuple(many[:full])))
    with pytest.raises(KeyFileError, match="would be larger"):
        create_key(settings, "y" * 64, ["predict"], now=NOW + timedelta(days=1), who="tests")
    known = {entry.id for entry in read_keys(keys_path(settings)).keys}
    *_, newest = audit_keys(settings).entries
    assert newest.action == "created"
    assert newest.key_id not in known


def test_a_key_ends_although_the_audit_is_broken_and_the_entry_comes_later(settings):
    entry, _ = create_key(settings, "crm", ["predict"], now=NOW, who="tests")
    path = audit_path(settings)
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    for _ in range(2):
        with pytest.raises(RevocationUnrecordedError, match=f"key {entry.id} is revoked, but") as told_of:
            revoke_key(settings, entry.id, now=NOW, who="tests")
        assert f"churn keys revoke {entry.id}" in told_of.value.hint
    assert read_keys(keys_path(settings)).keys[0].revoked_at == NOW
    path.write_bytes(good)
    assert audit_keys(settings).unrecorded == (entry.id,)
    for _ in range(2):
        revoke_key(settings, entry.id, now=NOW + timedelta(hours=1), who="tests")
    assert [action for action, *_ in happened(settings)] == ["created", "revoked"]
    assert audit_keys(settings).unrecorded == ()


def test_a_key_that_churn_keys_did_not_make_is_found(settings):
    old = new_key("old", ("predict",), now=NOW - timedelta(days=1), expires_at=None)[0]
    write_keys(keys_path(settings), KeyFile(keys=(old,)))
    assert audit_keys(settings).unknown == (old.id,)
    create_key(settings, "crm", ["predict"], now=NOW, who="tests")
    assert audit_keys(settings).unknown == (old.id,)
    revoke_key(settings, old.id, now=NOW, who="tests")
    assert audit_keys(settings).unrecorded == ()
    forged = new_key("forged", ("metrics",), now=NOW + timedelta(days=1), expires_at=None)[0]
    write_keys(keys_path(settings), KeyFile(keys=(*read_keys(keys_path(settings)).keys, forged)))
    with pytest.raises(KeyAuditBrokenError, match=f"key {forged.id} was made since it began") as broken:
        audit_keys(settings)
    assert f"churn keys revoke {forged.id}" in broken.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"rights": ("predict", "receipts")},
        {"expires_at": None},
        {"expires_at": NOW + timedelta(days=900)},
        {"sha256": "0" * 64},
    ],
)
def test_a_key_that_was_changed_in_the_file_is_found(settings, changes):
    entry, _ = create_key(settings, "crm", ["predict"], now=NOW, days=90, who="tests")
    write_keys(keys_path(settings), KeyFile(keys=(entry.model_copy(update=changes),)))
    with pytest.raises(KeyAuditBrokenError, match=f"key {entry.id} is not the key that was made"):
        audit_keys(settings)


def test_a_key_that_is_in_force_again_is_found_and_can_be_ended(settings):
    entry, _ = create_key(settings, "crm", ["predict"], now=NOW, who="tests")
    backup = keys_path(settings).read_bytes()
    revoke_key(settings, entry.id, now=NOW, who="tests")
    keys_path(settings).write_bytes(backup)
    with pytest.raises(KeyAuditBrokenError, match=f"key {entry.id} was revoked and is in force again"):
        audit_keys(settings)
    revoke_key(settings, entry.id, now=NOW, who="tests")
    assert [event.action for event in audit_keys(settings).entries] == ["created", "revoked", "revoked"]


def test_an_entry_is_told_in_one_line(settings):
    first, last = (at.isoformat() for at in (NOW, NOW + timedelta(seconds=9)))
    settings.home.mkdir()
    append_record(
        audit_path(settings),
        [
            AuditRecord("created", "0a1b2c3d", "crm", "ann", Grant(("predict", "receipts"), last, "5" * 16)),
            AuditRecord("created", "0a1b2c3e", "web", "ann", Grant(("metrics",), None, "6" * 16)),
            AuditRecord("revoked", "0a1b2c3e", "web", "bob"),
            AuditRecord("refused", "0a1b2c3d", "crm", "service", refusals=Refusals("expired", 7, first, last)),
            AuditRecord("refused", None, None, "service", refusals=Refusals("missing", 1, first, first)),
        ],
        NOW,
    )
    span = "2026-11-01 12:00:00 to 2026-11-01 12:00:09"
    assert [format_entry(event) for event in read_entries(audit_path(settings))] == [
        "    1  2026-11-01 12:00:00  created  key 0a1b2c3d (crm), by ann: predict, receipts until 2026-11-01 12:00:09",
        "    2  2026-11-01 12:00:00  created  key 0a1b2c3e (web), by ann: metrics",
        "    3  2026-11-01 12:00:00  revoked  key 0a1b2c3e (web), by bob",
        f"    4  2026-11-01 12:00:00  refused  key 0a1b2c3d (crm), expired, 7 times: {span}",
        "    5  2026-11-01 12:00:00  refused  no known key, missing, once: 2026-11-01 12:00:00",
    ]


def test_the_command_line_shows_the_audit_and_refuses_a_changed_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path))
    assert churn(capsys, "audit") == (0, "", "the audit is empty: no key was made, revoked or refused\n")
    for name in ("crm", "web", "app"):
        churn(capsys, "create", "--name", name, "--right", "predict")
    key_id = read_keys(keys_path(load_settings())).keys[0].id
    churn(capsys, "revoke", key_id)
    code, output, _ = churn(capsys, "audit")
    assert (code, len(output.splitlines())) == (0, 4)
    assert output.splitlines()[3].endswith(f"revoked  key {key_id} (crm), by {current_user()}")
    code, output, _ = churn(capsys, "audit", "--last", "2", "--json")
    assert [json.loads(line)["action"] for line in output.splitlines()] == ["created", "revoked"]
    path = audit_path(load_settings())
    good = path.read_bytes().splitlines(keepends=True)
    for spoilt, says in (
        ([good[0], good[1].replace(b"web", b"wab"), *good[2:]], "line 2 of keys.jsonl was changed"),
        ([good[0], *good[2:]], "line 2 of keys.jsonl does not follow the line before it"),
        (good[:3], "keys.jsonl ends after entry 3, and 4 were written"),
        ([b"\0" * 100 + b"\n"], "line 1 of keys.jsonl was changed"),
    ):
        path.write_bytes(b"".join(spoilt))
        code, output, told_of = churn(capsys, "audit", "--last", "1")
        assert (code, output) == (1, "")
        assert f"error: the audit of API keys is broken: {says}" in told_of
        assert "hint: restore the folder audit/" in told_of
    path.write_bytes(b"".join(good))
    assert churn(capsys, "audit", "--last", "0")[0] == 2
    assert churn(capsys, "audit")[0] == 0
