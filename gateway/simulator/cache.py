"""The prompt cache: which long prefixes have been seen.

As OpenAI documents it: prompts of 1,024 tokens and more, in steps of 128. What is cached depends only on the requests
that came before, so the same sequence of requests gives the same numbers.
"""

import hashlib
from collections import OrderedDict

from gateway.simulator import tokens

FIRST_TOKENS = 1024
STEP_TOKENS = 128


class PromptCache:
    """`max_prefixes` prefixes are kept; those not used for longest are forgotten."""

    def __init__(self, max_prefixes: int = 200_000) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._max = max_prefixes

    def look_up(self, scope: str, text: str) -> tuple[int, int]:
        """How many leading tokens of a prompt were cached, and how many are from now on. scope: model and account."""
        digest = hashlib.blake2b(scope.encode(), digest_size=12)
        hit, length, start, missed = 0, 0, 0, False
        for i, end in enumerate(tokens.prefix_ends(text, FIRST_TOKENS, STEP_TOKENS)):
            length = FIRST_TOKENS + i * STEP_TOKENS
            digest.update(text[start:end].encode())
            start, key = end, digest.digest()
            if not missed and key in self._seen:
                self._seen.move_to_end(key)
                hit = length
            else:
                missed = True
                self._seen[key] = None
        while len(self._seen) > self._max:
            self._seen.popitem(last=False)
        return hit, length

    def clear(self) -> None:
        self._seen.clear()
