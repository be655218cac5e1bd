"""Counting tokens exactly, with OpenAI's tokenizers, where the optional package `tiktoken` is installed.

Its tables are some megabytes that it fetches on first use, or finds in the folder that the environment variable
TIKTOKEN_CACHE_DIR names. They are loaded in a thread, and until then, or without them, tokens are estimated by bytes.
"""

import asyncio
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

LONGEST = 64 * 1024  # characters of texts that are counted exactly; more would take too long in a worker's loop
NEWEST = "o200k_base"  # of OpenAI's models that tiktoken does not know yet
_NAMES = (NEWEST, "cl100k_base")
_OPENAI = re.compile(r"(ft:)?(gpt-|o\d|chatgpt-)")


class Encoding(Protocol):
    def encode_ordinary(self, text: str, /) -> list[int]: ...


class Tokenizers:
    """OpenAI's tokenizers. One set per worker."""

    def __init__(self) -> None:
        self._encodings: Mapping[str, Encoding] = MappingProxyType({})
        self._name_of: Callable[[str], str] = _nobody

    async def load(self, package: str = "tiktoken") -> str:
        """Loads the tables, if tiktoken is installed. Returns why that failed, empty if it did not."""
        try:
            module: Any = importlib.import_module(package)
        except ImportError:
            return f"{package} is not installed"

        def encodings() -> dict[str, Encoding]:
            return {name: module.get_encoding(name) for name in _NAMES}

        def name_of(model: str) -> str:
            try:
                name: str = module.encoding_name_for_model(model)
            except KeyError:
                return NEWEST if _OPENAI.match(model) else ""
            return name

        try:
            self._encodings = await asyncio.to_thread(encodings)
        except Exception as error:  # noqa: BLE001 - whatever its download raises
            return f"its tables cannot be loaded: {type(error).__name__}"
        self._name_of = name_of
        return ""

    def tokens(self, model: str, texts: Sequence[str]) -> int | None:
        """How many tokens these texts are for a model; None if there is no tokenizer for it, or they are too long."""
        encoding = self._encodings.get(self._name_of(model))
        if encoding is None or sum(map(len, texts)) > LONGEST:
            return None
        return sum(len(encoding.encode_ordinary(text)) for text in texts)


def _nobody(_model: str) -> str:
    return ""
