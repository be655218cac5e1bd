from gateway.simulator import tokens
from gateway.simulator.cache import PromptCache
from gateway.simulator.text import Prose

PROSE = Prose()
LONG = PROSE.text(1, 3000)


def test_a_repeated_prompt_is_cached_up_to_its_last_step() -> None:
    cache = PromptCache()
    assert cache.look_up("a", LONG) == (0, 2944)
    assert cache.look_up("a", LONG) == (2944, 2944)


def test_a_common_prefix_is_cached_and_nothing_else() -> None:
    cache = PromptCache()
    cache.look_up("a", LONG)
    shared = "".join(tokens.split(LONG)[:1500])
    hit, length = cache.look_up("a", shared + PROSE.text(9, 600))
    assert hit == 1024 + 3 * 128
    assert length > hit
    assert cache.look_up("a", "x" + LONG)[0] == 0
    assert cache.look_up("b", LONG)[0] == 0


def test_short_prompts_are_not_cached_and_old_ones_are_forgotten() -> None:
    cache = PromptCache(max_prefixes=20)
    assert cache.look_up("a", PROSE.text(1, 1023)) == (0, 0)
    for seed in range(5):
        cache.look_up("a", PROSE.text(seed, 2000))
    assert cache.look_up("a", PROSE.text(0, 2000))[0] == 0
