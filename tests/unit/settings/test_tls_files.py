"""Certificates and keys that the settings name: what is wrong with them is said before anything starts."""

import subprocess
from pathlib import Path

import pytest

from gateway.settings.load import SettingsError, load_settings
from tests.fakes.tls_front import OPENSSL, self_signed

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="there is no openssl on PATH")


def complaints(tmp_path: Path, **tls: Path) -> list[str]:
    """What is said of these files, in the settings of an upstream and in those of Redis."""
    path = tmp_path / "gateway.yaml"
    written = ", ".join(f"{name}: {file}" for name, file in tls.items())
    upstream = f"upstreams: {{a: {{base_url: 'https://x/v1', tls: {{{written}}}}}}}"
    path.write_text(f"{upstream}\nredis: {{url: 'rediss://x', tls: {{{written}}}}}\n")
    try:
        load_settings(path, {})
    except SettingsError as error:
        lines = str(error).splitlines()
        first, second = (
            [
                line.removeprefix(f"{path}:{number}: {place}.tls.")
                for line in lines
                if line.startswith(f"{path}:{number}:")
            ]
            for number, place in ((1, "upstreams.a"), (2, "redis"))
        )
        assert first == second
        return first
    return []


@pytest.fixture
def nonsense(tmp_path: Path) -> Path:
    (tmp_path / "nonsense").write_text("no certificate")
    return tmp_path / "nonsense"


def test_files_that_are_right(tmp_path: Path) -> None:
    made = self_signed(tmp_path)
    assert complaints(tmp_path, ca_file=made.cert, cert_file=made.cert, key_file=made.key) == []


def test_files_that_are_something_else(tmp_path: Path, nonsense: Path) -> None:
    made = self_signed(tmp_path)
    assert complaints(tmp_path, ca_file=nonsense) == [f"ca_file: expected certificates in PEM form in {nonsense}"]
    for cert, key in ((nonsense, made.key), (made.cert, nonsense)):
        assert complaints(tmp_path, cert_file=cert, key_file=key) == [expected(cert, key)]


def expected(cert: Path, key: Path) -> str:
    return f"cert_file: expected a certificate in {cert} and its key, without a password, in {key}, both in PEM form"


def test_a_certificate_and_the_key_of_another(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    made, other = self_signed(tmp_path), self_signed(tmp_path / "other")
    assert complaints(tmp_path, cert_file=made.cert, key_file=other.key) == [expected(made.cert, other.key)]


def test_a_key_with_a_password(tmp_path: Path) -> None:
    """Nobody is asked for it."""
    made, locked = self_signed(tmp_path), tmp_path / "locked"
    command = ["openssl", "pkey", "-in", str(made.key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    assert complaints(tmp_path, cert_file=made.cert, key_file=locked) == [expected(made.cert, locked)]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert complaints(tmp_path, ca_file=gone, cert_file=gone, key_file=gone) == [
        f"{name}: {gone} cannot be read: No such file or directory" for name in ("ca_file", "cert_file", "key_file")
    ]
