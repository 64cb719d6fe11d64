"""Making, showing and revoking keys, as functions and at the command line."""

from datetime import UTC, datetime, timedelta

import pytest

from bentos.churn.key_file import KeyFileError, path_of, read
from configs.settings import load_settings
from feature_repo.raw.atomic import LeaseHeldError, lease
from flows.cli import main
from flows.keys import KeyNameError, KeyUnknownError, create, lines, revoke

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def test_two_keys_of_one_name_are_rotation(settings):
    old, old_key = create(settings, "crm", ["receipts", "predict", "predict"], now=NOW, days=90)
    new, new_key = create(settings, "crm", ["predict"], now=NOW)
    assert old_key != new_key
    assert old.rights == ("predict", "receipts")
    assert old.expires_at == NOW + timedelta(days=90)
    gone = revoke(settings, old.id, now=NOW + timedelta(hours=1))
    assert gone.revoked_at == NOW + timedelta(hours=1)
    assert revoke(settings, old.id, now=NOW + timedelta(hours=2)) == gone
    assert read(path_of(settings)).keys == (gone, new)


def test_the_list_shows_states_and_no_secret(settings):
    assert lines(settings, NOW) == ["id  name  state  rights  made  expires"]
    entry, key = create(settings, "crm", ["predict", "metrics"], now=NOW, days=1)
    assert lines(settings, NOW)[1].split() == [
        *(entry.id, "crm", "valid", "predict,metrics", "2026-11-01", "12:00", "2026-11-02", "12:00")
    ]
    assert " expired " in lines(settings, NOW + timedelta(days=1))[1]
    assert key[-43:] not in "\n".join(lines(settings, NOW))
    assert entry.sha256 not in "\n".join(lines(settings, NOW))


@pytest.mark.parametrize("name", ["", "-x", "two words", "7590-VHVEG\n", "a" * 65, "ключ"])
def test_a_name_can_be_shown_anywhere(settings, name):
    with pytest.raises(KeyNameError) as refused:
        create(settings, name, ["predict"], now=NOW)
    assert refused.value.exit_code == 2
    assert not path_of(settings).exists()


def test_what_can_not_be_changed_stays_as_it_is(settings):
    create(settings, "crm", ["predict"], now=NOW)
    path = path_of(settings)
    before = path.read_bytes()
    with pytest.raises(KeyUnknownError):
        revoke(settings, "00000000", now=NOW)
    with lease(settings.home, "key-change", "another"), pytest.raises(LeaseHeldError):
        create(settings, "crm", ["predict"], now=NOW)
    assert path.read_bytes() == before
    path.write_bytes(before[:-5])
    with pytest.raises(KeyFileError):
        create(settings, "crm", ["predict"], now=NOW)
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
    (entry,) = read(path_of(load_settings())).keys
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
