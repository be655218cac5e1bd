"""Settings made from LiteLLM's."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.__main__ import main
from gateway.commands.check import load
from gateway.commands.from_litellm import Notes, models
from gateway.commands.from_litellm_keys import projects
from gateway.settings.model import Settings

KEY = "sk-litellm-0123456789"
TOKEN = hashlib.sha256(KEY.encode()).hexdigest()
CONFIG = """
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/our-deployment
      api_base: https://our.openai.azure.com/
      api_key: os.environ/AZURE_API_KEY
      api_version: "2024-02-01"
      rpm: 6
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, organization: org-1}
  - model_name: "*"
    litellm_params: {model: "openai/*", api_key: os.environ/OPENAI_API_KEY, organization: org-1}
  - model_name: llama
    litellm_params:
      model: hosted_vllm/meta-llama/Llama-3.1-8B-Instruct
      api_base: http://vllm.internal:8000
      input_cost_per_token: 0.00000015
      temperature: 0.2
    model_info: {output_cost_per_token: 6e-7, mode: chat}
  - model_name: claude
    litellm_params: {model: anthropic/claude-sonnet-4, api_key: os.environ/ANTHROPIC_API_KEY}
  - model_name: secret
    litellm_params: {model: gpt-4o-mini, api_key: sk-not-to-be-shown-anywhere}
  - model_name: odd
    litellm_params: {model: openai/odd, api_base: "https://me:hunter2@odd.example/v1"}
router_settings:
  model_group_alias: {default: gpt-4o, nothing: gpt-none}
general_settings: {master_key: sk-1234}
"""
TEAMS: list[Any] = [
    {
        "team_id": "7c9e6679-7425",
        "team_alias": "Search & co",
        "rpm_limit": 60,
        "max_budget": 500.5,
        "budget_duration": "30d",
    },
    {"team_id": "b", "models": ["gpt-4o"], "max_budget": 1, "budget_duration": "45m", "tpm_limit": None},
    {"team_alias": "nobody"},
]
KEYS: list[Any] = [
    {
        "token": TOKEN, "key_alias": "web app", "team_id": "7c9e6679-7425", "user_id": "ada@example.com", "models": ["all-team-models"],
        "expires": "2030-01-01T00:00:00Z", "tpm_limit": 1000, "max_parallel_requests": 5, "max_budget": 0.0,
    },
    {"token": "a" * 64, "key_alias": "web app", "team_id": "7c9e6679-7425", "expires": "soon", "allowed_routes": ["/chat"]},
    {"token": "b" * 64, "key_name": "sk-...abcd", "max_budget": 3, "budget_duration": "1d"},
    {"token": "c" * 64, "key_alias": "old", "blocked": True},
    {"token": "sk-in-the-clear", "key_alias": "odd"},
    {"token": "d" * 64, "team_id": "gone", "user_id": "u$1"},
]  # fmt: skip


def imported(folder: Path, *more: str) -> Path:
    """The file that is made of the examples."""
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "teams.json").write_text(json.dumps(TEAMS))
    (folder / "keys.json").write_text(json.dumps({"keys": KEYS, "total_count": len(KEYS)}))
    made = folder / "gateway.yaml"
    options = ["--teams", str(folder / "teams.json"), "--keys", str(folder / "keys.json"), "--output", str(made), *more]
    assert main(["import", "litellm", str(folder / "config.yaml"), *options]) == 0
    return made


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Settings:
    for name in ("AZURE_API_KEY", "OPENAI_API_KEY", "OPENAI_2_API_KEY"):
        monkeypatch.setenv(name, f"of-{name}")
    made = imported(tmp_path)
    said = capsys.readouterr().out
    assert "4 upstreams, 5 routes, 4 projects, 4 keys" in said
    assert "sk-not-to-be-shown" not in said + made.read_text()
    for line in made.read_text().splitlines():
        if line.startswith("# - "):
            assert line.removeprefix("# - ") in said
    return load(made)


def test_upstreams_and_routes(settings: Settings) -> None:
    urls = {name: (one.base_url, one.auth, one.organization) for name, one in settings.upstreams.items()}
    assert urls == {
        "azure": ("https://our.openai.azure.com/openai/v1", "api-key", None),
        "openai": ("https://api.openai.com/v1", "bearer", "org-1"),
        "vllm": ("http://vllm.internal:8000/v1", "none", None),
        "openai-2": ("https://api.openai.com/v1", "bearer", None),
    }
    key = settings.upstreams["azure"].api_key
    assert key is not None
    assert key.reveal() == "of-AZURE_API_KEY"
    routes: dict[str, Any] = {
        route.models[0]: [
            one if isinstance(one, str) else (one.upstream, one.upstream_model) for one in route.upstreams
        ]
        for route in settings.routes
    }
    assert list(routes)[-1] == "*", "the first that matches is taken"
    assert routes == {
        "gpt-4o": [("azure", "our-deployment"), "openai"],
        "default": [("azure", "our-deployment"), ("openai", "gpt-4o")],
        "llama": [("vllm", "meta-llama/Llama-3.1-8B-Instruct")],
        "secret": [("openai-2", "gpt-4o-mini")],
        "*": ["openai"],
    }
    prices = settings.prices.models["meta-llama/Llama-3.1-8B-Instruct"]
    assert (prices.input_tokens, prices.output_tokens) == (0.15, 0.6)


def test_projects_and_keys(settings: Settings) -> None:
    search, b, without, gone = settings.projects
    assert (search.id, search.name, b.id, without.id, gone.id) == (
        "proj_7c9e6679-7425", "Search & co", "proj_b", "proj_imported", "proj_gone"
    )  # fmt: skip
    assert (search.limits.requests_per_minute, search.limits.spend.month) == (60, 500.5)
    web, other = search.keys
    assert web.hashed() == hashlib.sha256(KEY.encode()).hexdigest(), "clients go on with their keys"
    assert (web.name, web.user, web.expires_at) == ("web-app", "ada@example.com", 1_893_456_000)
    assert (web.limits.tokens_per_minute, web.limits.concurrent_requests, web.limits.spend.total) == (1000, 5, 0.0)
    assert other.name == "web-app-aaaaaaaa"
    (key,) = without.keys
    assert (key.name, key.limits.spend.day) == ("sk-...abcd", 3)
    assert gone.keys[0].user == "u$1"


def test_what_is_said() -> None:
    notes = Notes()
    models(yaml.safe_load(CONFIG), notes)
    projects(TEAMS, KEYS, notes)
    said = "\n".join(notes.lines)
    for part in (
        "model_list[4] (claude): not carried over: anthropic",
        "model_list[3] (llama): not carried over: temperature",
        "model_list[6] (odd): not carried over: its api_base",
        "model_list[0] (gpt-4o): rpm and tpm",
        "routes, gpt-4o: calls go to the first upstream",
        "model_group_alias.nothing: there is no gpt-none",
        "put it into OPENAI_2_API_KEY",
        "projects, proj_b: not carried over: 1 dollars in 45m",
        "projects, proj_b: only gpt-4o",
        "a team has no team_id",
        "key old: left out: it is blocked",
        "key odd: left out: its token",
        "its team gone is not in the file of teams",
        "'soon' is no time",
        "key web app: not carried over: allowed_routes",
    ):
        assert part in said, part
    assert "sk-in-the-clear" not in said
    assert "hunter2" not in said
    assert "all-team-models" not in said


@pytest.mark.parametrize("lines", [True, False])
def test_tables_of_a_database(tmp_path: Path, lines: bool, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    text = "\n".join(map(json.dumps, KEYS[:2])) + "\n" if lines else json.dumps(KEYS[0])
    (tmp_path / "keys.json").write_text(text)
    assert main(["import", "litellm", str(tmp_path / "config.yaml"), "--keys", str(tmp_path / "keys.json")]) == 0
    made = yaml.safe_load(capsys.readouterr().out)
    assert [len(project["keys"]) for project in made["projects"]] == [2 if lines else 1]


@pytest.mark.parametrize(
    ("config", "keys", "said"),
    [
        ("a: [", None, "config.yaml: it is not YAML"),
        ("- 1", None, "config.yaml: expected a model_list"),
        (CONFIG, "{", "keys.json: it is not JSON"),
        (CONFIG, '{"other": 1}', "keys.json: expected a list of objects"),
        (CONFIG, "[1]", "keys.json: expected a list of objects"),
        (None, None, "config.yaml: No such file"),
    ],
)
def test_files_that_are_none_of_litellms(
    tmp_path: Path, config: str | None, keys: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
    more = []
    if keys is not None:
        (tmp_path / "keys.json").write_text(keys)
        more = ["--keys", str(tmp_path / "keys.json")]
    assert main(["import", "litellm", str(tmp_path / "config.yaml"), *more]) == 1
    assert said in capsys.readouterr().err


def test_no_file_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = imported(tmp_path)
    before = made.read_text()
    assert main(["import", "litellm", str(tmp_path / "config.yaml"), "--output", str(made)]) == 1
    assert "File exists" in capsys.readouterr().err
    assert made.read_text() == before
    assert os.environ.get("AZURE_API_KEY") is None, "nothing of it is needed to make the file"
