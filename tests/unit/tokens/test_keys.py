"""Key sets: which keys are taken, and for what."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt.algorithms import RSAAlgorithm

from gateway.tokens.keys import KeySetError, read_keys
from tests.fakes.issuer import ec_key, public_jwk, rsa_key

RSA, EC = rsa_key(), ec_key()
ALL = ["RS256", "PS256", "ES256", "ES384", "EdDSA"]


def found(*entries: Any, algorithms: list[str] = ALL) -> set[tuple[str | None, str]]:
    return set(read_keys({"keys": list(entries)}, algorithms).keys)


def test_a_key_is_for_the_algorithms_of_its_kind() -> None:
    assert found(public_jwk(RSA, kid="a")) == {("a", "RS256"), ("a", "PS256")}
    assert found(public_jwk(RSA, kid="a", alg="PS256")) == {("a", "PS256")}
    assert found(public_jwk(EC, kid="a")) == {("a", "ES256")}
    assert found(public_jwk(ec.generate_private_key(ec.SECP384R1()), kid="a")) == {("a", "ES384")}
    assert found(public_jwk(ed25519.Ed25519PrivateKey.generate(), kid="a")) == {("a", "EdDSA")}
    assert found(public_jwk(RSA, kid="a"), algorithms=["ES256"]) == set()


@pytest.mark.parametrize(
    "entry",
    [
        None, 5, [], {}, {"kty": "RSA"}, {"kty": "oct", "k": "c2VjcmV0", "kid": "a"},
        {**public_jwk(RSA), "use": "enc"}, {**public_jwk(RSA), "kid": 5}, {**public_jwk(RSA), "key_ops": ["sign"]},
        {**public_jwk(RSA), "alg": "HS256"}, {**public_jwk(RSA), "n": "!"}, {**public_jwk(EC), "x": "AAAA"},
        {**public_jwk(EC), "crv": "P-384"}, {**public_jwk(EC), "crv": "secp256k1"}, public_jwk(rsa_key(1024), kid="a"),
    ],
)  # fmt: skip
def test_what_is_no_key_for_signatures_is_left_out(entry: Any) -> None:
    good = public_jwk(EC, kid="good")
    assert found(entry, good) == {("good", "ES256")}


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":null}', b"\xff", b"null", b'{"keys":[' + b"1," * 100 + b"1]}"],
)
def test_what_is_no_key_set(document: bytes) -> None:
    with pytest.raises(KeySetError):
        read_keys(document, ALL)


def test_a_token_without_a_name_finds_the_only_key() -> None:
    other = rsa_key()
    one = read_keys({"keys": [public_jwk(RSA, kid="a"), public_jwk(EC, kid="e")]}, ALL)
    assert one.find(None, "RS256") is one.find("a", "RS256") is not None
    two = read_keys({"keys": [public_jwk(RSA, kid="a"), public_jwk(other, kid="b")]}, ALL)
    assert two.find(None, "RS256") is None
    assert two.find("e", "ES256") is None
    assert two.find("a", "HS256") is None


def test_private_halves_are_not_kept() -> None:
    private = RSAAlgorithm.to_jwk(RSA, as_dict=True)
    private.pop("key_ops")
    key = read_keys({"keys": [{**private, "kid": "a"}]}, ALL).find("a", "RS256")
    assert key is not None
    assert not hasattr(key.key, "private_numbers")
