"""The settings of tokens: what is accepted, and what is said of the rest."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings.load import SettingsError, load_settings
from gateway.settings.model import Settings

GOOD = {"issuer": "https://idp.example", "audience": "a", "jwks_url": "https://idp.example/jwks"}


def loaded(folder: Path, *issuers: Any) -> Settings:
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump({"upstreams": {"a": {"base_url": "http://a/v1"}}, "tokens": {"issuers": issuers}}))
    return load_settings(file, {})


def test_defaults(tmp_path: Path) -> None:
    (issuer,) = loaded(tmp_path, GOOD).tokens.issuers
    assert (issuer.algorithms, issuer.claims.user, issuer.create_users) == (["RS256", "ES256"], "sub", True)
    assert not loaded(tmp_path).tokens.allow_private_jwks


def test_a_file_is_relative_to_the_settings(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('{"keys": []}')
    (issuer,) = loaded(tmp_path, {"issuer": "i", "audience": "a", "jwks_file": "keys.json"}).tokens.issuers
    assert issuer.jwks_file == str(tmp_path / "keys.json")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/jwks", "http://localhost/jwks", "http://[::1]/jwks"])
def test_plain_http_on_this_machine(tmp_path: Path, url: str) -> None:
    assert loaded(tmp_path, {**GOOD, "jwks_url": url}).tokens.issuers[0].jwks_url == url


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"jwks_url": "http://idp.example/jwks"}, "tokens.issuers[0].jwks_url"),
        ({"jwks_url": "https://:1/jwks"}, "tokens.issuers[0].jwks_url"),
        ({"jwks_url": None}, "tokens.issuers[0]"),
        ({"jwks_file": "x"}, "tokens.issuers[0]"),
        ({"jwks_url": None, "jwks_file": "not-there.json"}, "tokens.issuers[0].jwks_file"),
        ({"algorithms": ["HS256"]}, "tokens.issuers[0].algorithms[0]"),
        ({"algorithms": ["none"]}, "tokens.issuers[0].algorithms[0]"),
        ({"algorithms": []}, "tokens.issuers[0].algorithms"),
        ({"projects": {"a": "proj_a"}}, "tokens.issuers[0].projects"),
        ({"roles": {"a": "owner"}}, "tokens.issuers[0].roles"),
        ({"roles": {"a": "king"}, "claims": {"roles": "r"}}, "tokens.issuers[0].roles.a"),
        ({"default_project": "a b"}, "tokens.issuers[0].default_project"),
        ({"leeway_s": -1}, "tokens.issuers[0].leeway_s"),
        ({"audience": ""}, "tokens.issuers[0].audience"),
    ],
)
def test_what_is_wrong(tmp_path: Path, change: dict[str, Any], place: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, {**GOOD, **change})
    assert f": {place}: " in str(caught.value)


def test_the_same_issuer_twice(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="earlier"):
        loaded(tmp_path, GOOD, GOOD)
    assert len(loaded(tmp_path, GOOD, {**GOOD, "audience": "b"}).tokens.issuers) == 2
