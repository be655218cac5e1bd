"""Addresses that others may make us connect to."""

import socket

import pytest

from gateway.public_addresses import NotPublicError, is_public, public_socket


def test_which_addresses_are_public() -> None:
    public = ("93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")
    not_public = (
        "10.0.0.1", "172.16.0.1", "192.168.0.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
        "ff02::1", "fec0::1", "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:0:a00:1::1",
        "2001:db8::1", "127.1", "", "localhost",
    )  # fmt: skip
    assert [one for one in public if not is_public(one)] == []
    assert [one for one in not_public if is_public(one)] == []


def test_what_is_dialed_is_looked_at() -> None:
    with pytest.raises(NotPublicError, match="is not public"):
        public_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443)))
    public_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443))).close()
