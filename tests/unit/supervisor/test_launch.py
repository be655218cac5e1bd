"""What of our environment a child process gets."""

import pytest

from gateway.supervisor.launch import inherited


@pytest.mark.parametrize(
    "name",
    ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "LD_PRELOAD", "SSL_CERT_FILE", "VIRTUAL_ENV"],
)
def test_what_programs_need(name: str) -> None:
    assert inherited({name: "x"}) == {name: "x"}


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "REDIS_PASSWORD", "MYPATH", "PATH_TO_SECRET", "HOMEKEY", "path"])
def test_what_may_be_a_secret_stays_here(name: str) -> None:
    assert inherited({name: "x", "PATH": "/bin"}) == {"PATH": "/bin"}
