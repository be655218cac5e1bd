"""Identifiers in OpenAI's forms. They are random: besides times, all that differs between two runs."""

import random
import secrets

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class Ids:
    """Makes ids. One for each simulator, seeded by the system, so that ids stay unique over restarts."""

    def __init__(self) -> None:
        self._rng = random.Random(secrets.randbits(128))  # noqa: S311 - names, not secrets

    def make(self, prefix: str, length: int = 24) -> str:
        """`prefix` and that many letters and digits: `file-...`, `asst_...`, `chatcmpl-...`."""
        return prefix + "".join(self._rng.choices(_ALPHABET, k=length))

    def hexadecimal(self, prefix: str, digits: int = 32) -> str:
        """`req_...`, `resp_...`, `msg_...`: hexadecimal digits."""
        return f"{prefix}{self._rng.getrandbits(digits * 4):0{digits}x}"
