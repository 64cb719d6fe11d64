from __future__ import annotations

import pytest

from bentos.receipts.postgres_sink import PostgresSink
from configs.errors import SettingsError


@pytest.mark.parametrize("url", ["sqlite:///receipts.db", "no url of s3cret", "mysql://me:s3cret@host/db", "://s3cret"])
def test_another_database_is_refused_without_its_password(url):
    with pytest.raises(SettingsError, match=r"receipts\.database_url") as refused:
        PostgresSink(url)
    assert "s3cret" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    "url",
    ["postgresql+psycopg://me:p%40ss@h:5433/d?sslmode=require", "postgresql://me:p%40ss@h:5433/d?sslmode=require"],
)
def test_every_part_of_the_url_is_used(url):
    wanted = {"host": "h", "port": 5433, "dbname": "d", "user": "me", "password": "p@ss", "sslmode": "require"}
    assert wanted.items() <= PostgresSink(url)._arguments.items()
