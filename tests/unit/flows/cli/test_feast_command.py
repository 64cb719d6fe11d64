"""What `churn feast` finds in the arguments, and what Feast reads of the configuration."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from configs.settings import PROJECT_ROOT
from feature_repo.stores.feature_store import repo_config
from flows.cli.feast_command import CONFIGURATION, addresses, feast_environment, with_loopback
from flows.listen_address import AddressError


@pytest.mark.parametrize("text", ["\N{GRINNING FACE}", "\x7f\x85", "\N{LINE SEPARATOR}", "a: b #'\"", "$HOME"])
def test_feast_reads_the_configuration_as_it_is(monkeypatch, settings, tmp_path, text):
    feast = settings.feast.model_copy(update={"online_store": "redis", "redis_url": SecretStr("redis://127.0.0.1:1/0")})
    settings = settings.model_copy(update={"home": tmp_path / text, "feast": feast})
    monkeypatch.setenv(CONFIGURATION, feast_environment(settings)[CONFIGURATION])
    template = (PROJECT_ROOT / "feature_repo" / "from_environment.yaml").read_text()
    assert yaml.safe_load(os.path.expandvars(template)) == repo_config(settings)


@pytest.mark.parametrize("before", [["--log-level", "info"], ["--log-level=info"], ["-fx.yaml", "-c", "ui"], ["--"]])
def test_a_server_is_found_behind_the_options_of_the_group(before):
    assert addresses([*before, "serve", "-p", "7000"]) == [("127.0.0.1", 7000)]


@pytest.mark.parametrize("words", ["", "plan", "serve --help", "--help serve", "--chdir serve plan", "-f"])
def test_what_does_not_listen_needs_no_port(words):
    assert addresses(words.split()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("serve", [("127.0.0.1", 6566)]),
        ("serve -h localhost -p7000", [("localhost", 7000)]),
        ("serve -mp 7000 --host=::1", [("::1", 7000)]),
        ("serve -p 7000 --port=7001", [("127.0.0.1", 7001)]),
        ("serve -p seven", [("127.0.0.1", 6566)]),
        ("ui --host", [("127.0.0.1", 8888)]),
        ("ui --host 0.0.0.0", [("0.0.0.0", 8888)]),  # noqa: S104 - as given
        ("serve_registry --rest-port 7001", [("::", 6570)]),
        ("serve_registry -r --rest-port=7001 -h 127.0.0.1", [("::", 6570), ("127.0.0.1", 7001)]),
        ("serve_registry --rest-api -p 7000", [("::", 7000), ("::", 6572)]),
        ("serve_registry --no-grpc --rest-api", [("::", 6572)]),
    ],
)
def test_where_a_server_listens(words, expected):
    assert addresses(words.split()) == expected


@pytest.mark.parametrize(
    "words", ["serve -p 70000", "ui --port=0", "serve -p -1", "serve_registry -r --rest-port 65536"]
)
def test_a_port_that_there_is_not(words):
    with pytest.raises(AddressError, match="at this port") as refused:
        addresses(words.split())
    assert "65535" in refused.value.hint


@pytest.mark.slow
def test_feast_runs_in_a_home_with_an_emoji(tmp_path):
    home = tmp_path / "\N{GRINNING FACE}"
    env = {**os.environ, "CHURN_HOME": str(home)}
    words = [str(Path(sys.executable).with_name("churn")), "feast", "plan"]
    run = subprocess.run(words, env=env, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (home / "feast" / "registry.db").is_file()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ui", "ui --host 127.0.0.1"),
        ("--log-level info ui -p 8000", "--log-level info ui --host 127.0.0.1 -p 8000"),
        ("ui -h localhost", "ui -h localhost"),
        ("ui --host=::1", "ui --host=::1"),
        ("ui --help", "ui --help"),
        ("serve", "serve"),
    ],
)
def test_the_page_of_feast_listens_on_loopback_unless_a_host_is_given(words, expected):
    assert with_loopback(words.split()) == expected.split()
