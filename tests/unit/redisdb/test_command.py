"""Scripts and packed commands."""

from gateway.redisdb.command import Script, pack


def test_a_script_is_called_by_the_servers_own_hash() -> None:
    assert Script.of("one", "return 1").sha1 == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"


def test_arguments_of_every_kind() -> None:
    assert pack(("A", b"\xff", 7, "é")) == b"*4\r\n$1\r\nA\r\n$1\r\n\xff\r\n$1\r\n7\r\n$2\r\n\xc3\xa9\r\n"
