"""Tokens counted by tokenizers, where they are there."""

import pytest

from gateway.usage.asked import of_json
from gateway.usage.estimate import Densities
from gateway.usage.exact import LONGEST, Tokenizers
from gateway.usage.kinds import KINDS
from gateway.usage.lines import Answer, Attempt, lines_of

PACKAGE = "tests.fakes.tokenizer_package"
BODY = b'{"model":"gpt-4o","messages":[{"role":"user","content":"one two three"},{"role":"user","content":"four"}]}'


async def test_texts_are_counted_by_the_models_tokenizer() -> None:
    tokenizers = Tokenizers()
    assert tokenizers.tokens("gpt-4o", ["one two"]) is None
    assert await tokenizers.load(PACKAGE) == ""
    assert tokenizers.tokens("gpt-4o", ["one two", "three"]) == 3
    assert tokenizers.tokens("gpt-9-new", ["one two"]) == 2, "OpenAI's newer models have the newest"
    assert tokenizers.tokens("llama", ["one two"]) is None
    assert tokenizers.tokens("gpt-4o", ["x" * (LONGEST + 1)]) is None


async def test_without_the_package_bytes_decide() -> None:
    tokenizers = Tokenizers()
    assert await tokenizers.load("no_such_package") == "no_such_package is not installed"
    assert await tokenizers.load("math") == "its tables cannot be loaded: AttributeError"
    assert tokenizers.tokens("gpt-4o", ["one"]) is None
    assert Densities(tokenizers.tokens).tokens("gpt-4o", "input", 45, ["x" * 45]) == 10


@pytest.mark.parametrize(("early", "tokens"), [(0, 4), (45, 14)])
async def test_what_was_not_kept_is_estimated_by_bytes(early: int, tokens: int) -> None:
    tokenizers = Tokenizers()
    await tokenizers.load(PACKAGE)
    answer = Answer(texts=["four wor", "ds of text"], text_bytes=18 + early, began=True)
    attempt = Attempt(kind=KINDS["createChatCompletion"], category="completions", request_model="gpt-4o")
    (line,) = lines_of(attempt, of_json(BODY, "text"), answer, Densities(tokenizers.tokens))
    assert line.quantities.output_tokens == tokens
    assert line.quantities.input_tokens == 4 + 2 * 4, "four words, and four tokens around each message"
