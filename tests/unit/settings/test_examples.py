"""The files in config/: each loads as it stands, and what the annotated one shows is true."""

import re
from pathlib import Path

import pytest
from msgspec.structs import asdict, replace

from gateway.commands.check import load
from gateway.settings.model import Settings, Upstream
from gateway.settings.transfer import decode, encode

CONFIG = Path(__file__).parents[3] / "config"
EXAMPLES = sorted(CONFIG.glob("*.yaml"))
ANNOTATED = CONFIG / "gateway.yaml"
# Without a default, or shown with an example instead of it.
EXAMPLE_VALUES = {"data_dir", "upstreams", "projects"}
# Of one plane alone, or of later versions.
NOT_SHOWN = {"control_url"}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in EXAMPLES:
        for name in re.findall(r"\$\{([A-Z0-9_]+)", path.read_text()):
            monkeypatch.delenv(name, raising=False)


def test_there_are_examples() -> None:
    assert ANNOTATED in EXAMPLES
    assert len(EXAMPLES) > 3


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_it_loads_without_anything_set(path: Path) -> None:
    settings = load(path)
    assert decode(encode(settings)) == settings, "it gets to the processes as it is"
    for upstream in settings.upstreams.values():
        assert upstream.auth == "none" or upstream.api_key is not None


def test_the_annotated_one_shows_the_defaults() -> None:
    settings = load(ANNOTATED)
    defaults = asdict(Settings(upstreams={"any": Upstream("http://any/v1")}))
    for name, value in asdict(settings).items():
        assert value == defaults[name] or name in EXAMPLE_VALUES, name
    (upstream,) = settings.upstreams.values()
    assert replace(upstream, api_key=None) == Upstream("https://api.openai.com/v1")


def test_the_annotated_one_shows_every_part() -> None:
    shown = set(re.findall(r"(?m)^(\w+):", ANNOTATED.read_text()))
    assert shown == set(Settings.__struct_fields__) - NOT_SHOWN


def test_no_key_is_in_two_places() -> None:
    hashes = [found for path in EXAMPLES for found in re.findall(r"sha256:[0-9a-f]{64}", path.read_text())]
    assert len(set(hashes)) == len(hashes)
