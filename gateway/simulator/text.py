"""English prose from a seed: the same seed gives the same words, with their tokens known beforehand.

A `Prose` is made once: about a thousand sentences out of a small grammar, each already cut into tokens. An answer is
then a choice of sentences, set in paragraphs, and costs no counting: its pieces are its tokens.
"""

import random
import re

from gateway.simulator import tokens

_SUBJECTS = (
    "the harbour master",
    "a careful gardener",
    "the young engineer",
    "our neighbour",
    "the old librarian",
    "a travelling musician",
    "the night train",
    "the city council",
    "a small research team",
    "the baker on the corner",
    "the southern wind",
    "every patient reader",
    "the committee",
    "a retired sailor",
    "the first draft",
    "the mountain village",
    "her grandfather",
    "the weather station",
    "a curious child",
    "the translation",
    "the market",
    "an honest witness",
    "the river",
    "the archive",
    "a modest proposal",
    "the winter school",
    "the watchmaker",
    "an early visitor",
    "the new bridge",
    "the orchestra",
)
_VERBS = (
    "describes",
    "keeps a record of",
    "depends on",
    "has gradually changed",
    "explains",
    "remembers",
    "measures",
    "prefers",
    "rarely mentions",
    "gave shape to",
    "looks after",
    "questions",
    "has rebuilt",
    "compares",
    "takes pride in",
    "followed",
    "was waiting for",
    "simplifies",
    "carries",
    "learned from",
    "is responsible for",
    "sketched",
    "belongs to",
    "outlived",
)
_OBJECTS = (
    "the long road between the two valleys",
    "a set of instruments that nobody else understands",
    "the price of timber",
    "an unfinished map of the coast",
    "the habits of migrating birds",
    "a quiet agreement",
    "the stories people tell in spring",
    "the temperature of the water",
    "a collection of letters",
    "the difference between speed and haste",
    "the broken clock",
    "three boxes of photographs",
    "a garden full of lavender",
    "the shortest way home",
    "the rules of the game",
    "what the committee decided in October",
    "the colour of the evening sky",
    "a recipe for dark bread",
    "the harvest",
    "the reasons behind the delay",
    "a practical answer",
    "the sound of rain on the roof",
    "the experiments of last year",
    "an argument about music",
    "the foundations of the house",
    "the village school",
    "the language of the islands",
)
_OPENINGS = (
    "",
    "",
    "",
    "",
    "In the end, ",
    "For most of the year, ",
    "At first glance, ",
    "Perhaps surprisingly, ",
    "On some mornings, ",
    "As the records show, ",
    "Without much ceremony, ",
    "By the time the snow melts, ",
    "In practice, ",
    "Once again, ",
    "For example, ",
    "To be precise, ",
)
_ENDINGS = (
    "",
    "",
    "",
    ", although few people notice",
    ", and that is enough",
    " because the alternative would take longer",
    ", which is why it still works",
    " while the others are asleep",
    ", as anyone in town will confirm",
    " at least twice a week",
    ", but only when the light is good",
    ", and the result is surprisingly simple",
    " without asking for permission",
    " until somebody finds a better idea",
    ", much to everyone's relief",
    " in 1987 and again in 2014",
)
_ASIDES = (
    "Nobody is quite sure how it began.",
    "The details matter less than the pattern.",
    "It is a modest but useful habit.",
    "There are, of course, exceptions.",
    "That alone would be worth a visit.",
    "A few questions remain open.",
    "The evidence points in both directions.",
    "Patience turns out to be the main ingredient.",
)

_MULTIPLIER = 6364136223846793005
_MASK = (1 << 64) - 1


class Dice:
    """A tiny seeded generator, an LCG of 64 bits: cheaper to start than `random.Random`, and good enough for words."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = (seed ^ 0x9E3779B97F4A7C15) & _MASK

    def below(self, limit: int) -> int:
        """A number from 0 up to, not including, `limit`."""
        self._state = (self._state * _MULTIPLIER + 1442695040888963407) & _MASK
        return (self._state >> 33) % limit


class Prose:
    """Sentences to answer with. `sentences` is how many there are to choose from."""

    def __init__(self, sentences: int = 900, seed: int = 20241122) -> None:
        rng = random.Random(seed)  # noqa: S311 - words, not secrets
        self._sentences = [tuple(tokens.split(_sentence(rng))) for _ in range(sentences)]
        self._following = [(" " + first, *rest) for first, *rest in self._sentences]

    def pieces(self, seed: int, length: int) -> list[str]:
        """Exactly `length` tokens of prose; joined they are the text, and counting the text gives `length` again."""
        dice, sentences, following = Dice(seed), self._sentences, self._following
        count = len(sentences)
        out: list[str] = []
        while len(out) < length:
            if out:
                out.append("\n\n")
            out += sentences[dice.below(count)]
            for _ in range(2 + dice.below(4)):
                out += following[dice.below(count)]
        del out[length:]
        return out

    def text(self, seed: int, length: int) -> str:
        """Exactly `length` tokens of prose."""
        return "".join(self.pieces(seed, length))

    def words(self, seed: int, count: int) -> str:
        """A short phrase of `count` words, without punctuation: for names, search queries and arguments."""
        words = re.findall("[a-z]+", self.text(seed, count * 4).lower())
        return " ".join(words[:count])


def _sentence(rng: random.Random) -> str:
    if rng.random() < 0.12:
        return rng.choice(_ASIDES)
    opening = rng.choice(_OPENINGS)
    words = f"{rng.choice(_SUBJECTS)} {rng.choice(_VERBS)} {rng.choice(_OBJECTS)}{rng.choice(_ENDINGS)}"
    text = opening + words
    return text[0].upper() + text[1:] + ("?" if rng.random() < 0.03 else ".")
