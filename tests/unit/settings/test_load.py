"""Settings: what is accepted, and one sample for each way to be wrong."""

from pathlib import Path

import pytest

from gateway.settings.load import SettingsError, load_settings
from gateway.settings.model import Settings
from gateway.settings.transfer import decode, encode
from gateway.values import Secret

MINIMAL = "upstreams: {openai: {base_url: 'https://api.openai.com/v1'}}\n"


def load(tmp_path: Path, text: str, **environment: str) -> Settings:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    return load_settings(path, environment)


def complaints(tmp_path: Path, text: str, **environment: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, **environment)
    return [line.removeprefix(f"{tmp_path}/gateway.yaml:") for line in str(caught.value).splitlines()]


def test_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)
    assert settings.timeouts.connect_s == 5
    assert settings.listeners.proxy.port == 8080
    assert settings.upstreams["openai"].api_key is None
    assert settings.data_dir == str(tmp_path / "data")
    assert settings.usage.spool_dir is None


def test_paths_count_from_the_file(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL + "usage: {spool_dir: ../spool}\n")
    assert settings.usage.spool_dir == str(tmp_path.parent / "spool")


def test_variables(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-from-file\n")
    settings = load(
        tmp_path,
        "listeners: {proxy: {port: '${PORT}', host: '${HOST:-0.0.0.0}'}}\n"
        "upstreams:\n"
        "  openai:\n"
        "    base_url: https://${NAME}.example/v1\n"
        "    api_key: ${file:key}\n"
        "    organization: 'org$$1'\n"
        "cors: {origins: ['${EMPTY:-}']}\n",
        PORT="9999",
        NAME="up",
    )
    upstream = settings.upstreams["openai"]
    assert settings.listeners.proxy.port == 9999
    assert settings.listeners.proxy.host == "0.0.0.0"
    assert upstream.base_url == "https://up.example/v1"
    assert upstream.api_key == Secret("sk-from-file")
    assert upstream.organization == "org$1"
    assert settings.cors.origins == [""]
    assert decode(encode(settings)) == settings


def test_an_empty_variable_is_null_where_a_setting_may_be_null(tmp_path: Path) -> None:
    text = (
        "upstreams: {a: {base_url: 'http://x/v1', api_key: '${K:-}', organization: '${O}', max_connections: '${M:-}'}}\n"
        "redis: {url: '${R:-}', prefix: 'p${EMPTY:-}'}\n"
    )
    settings = load(tmp_path, text, O="org-1")
    upstream = settings.upstreams["a"]
    assert (upstream.api_key, upstream.organization, upstream.max_connections) == (None, "org-1", None)
    assert settings.redis.url is None
    assert complaints(tmp_path, MINIMAL + "redis: {prefix: '${P:-}'}\n") == [
        "2: redis.prefix: expected a name of letters, digits and _ . -, got something else from a variable"
    ]
    assert complaints(tmp_path, MINIMAL + "redis: {url: ''}\n") == [
        "2: redis.url: expected a redis://, rediss:// or unix:// URL, got text"
    ], "what is written empty is a slip"


def test_a_variable_is_never_read_as_yaml(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL + "redis: {prefix: '${P}'}\norganization_id: '${O}'\n", P="true", O="org-1")
    assert settings.redis.prefix == "true"


def test_yaml_scalars_are_jsons(tmp_path: Path) -> None:
    text = "upstreams: {on: {base_url: 'http://x/v1', organization: 1:30}}\nallow_unmetered: true\nworkers: {max_in_flight: 1_000}\n"
    settings = load(tmp_path, text)
    assert settings.upstreams["on"].organization == "1:30"
    assert settings.allow_unmetered is True
    assert settings.workers.max_in_flight == 1000


def test_secrets_survive_the_way_to_a_child_and_are_never_shown(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "upstreams: {a: {base_url: 'http://x/v1', api_key: sk-hidden, headers: {X-Key: hidden2}}}\n"
        "alerts: {smtp: {host: mail, from: a@b.example, username: me, password: hidden3},"
        f" webhook_secret: whsec_{'hidden00' * 4}}}\n",
    )
    assert "hidden" not in repr(settings)
    assert "hidden" not in f"{settings.upstreams['a'].api_key} {settings.upstreams['a'].api_key:>20}"
    assert decode(encode(settings)) == settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["0: upstreams: is missing; expected a mapping of one upstream or more"]),
        ("- a\n", ["1: the file: expected a mapping, got a list"]),
        ("upstreams: {}\n", ["1: upstreams: expected a mapping of one upstream or more, got a mapping"]),
        (MINIMAL + "worker: {}\n", ["2: worker: is not a setting; did you mean workers?"]),
        (MINIMAL + "logs: {}\nlogs: {}\n", ["3: logs: stands twice; it is on line 2 already"]),
        (MINIMAL + "logs:\n  level: loud\n", ["3: logs.level: expected one of debug, error, info, warning, got 'loud'"]),
        (
            MINIMAL + "listeners: {proxy: {port: 70000}}\n",
            ["2: listeners.proxy.port: expected a port number, 0 to 65535; 0 lets the system choose, got 70000"],
        ),
        (MINIMAL + "workers: {count: many}\n", ["2: workers.count: expected a whole number from 1 to a billion or 'auto', got 'many'"]),
        (MINIMAL + "allow_unmetered: yes\n", ["2: allow_unmetered: expected true or false, got 'yes'"]),
        (MINIMAL + "timeouts: {connect_s: 0}\n", ["2: timeouts.connect_s: expected a number of seconds above 0, below three years, got 0"]),
        (
            "upstreams: {a: {base_url: 'ftp://x'}}\n",
            ["1: upstreams.a.base_url: expected an http:// or https:// URL, got 'ftp://x'"],
        ),
        (
            MINIMAL + "routes: [{models: [], upstreams: [openai]}]\n",
            ["2: routes[0].models: expected a list of model names, in which * stands for anything, got a list"],
        ),
        (
            MINIMAL + "routes: [{models: ['*'], upstreams: [azure]}]\n",
            ["2: routes[0].upstreams[0]: expected the name of an upstream (openai), got 'azure'"],
        ),
        (
            MINIMAL + "organization_id: ${MISSING}\n",
            ["2: organization_id: expected the environment variable MISSING to be set"],
        ),
        (MINIMAL + "data_dir: ${1x}\n", ["2: data_dir: expected ${NAME}, ${NAME:-default} or ${file:/path} (write $$ for a plain $)"]),
        (MINIMAL + "data_dir: [\n", ["3: the file: is not valid YAML: did not find expected node content"]),
        (MINIMAL + "redis: {url: 'http://x'}\n", ["2: redis.url: expected a redis://, rediss:// or unix:// URL, got text"]),
        (
            MINIMAL + "alerts: {smtp: {host: mail, from: me, port: 0}, webhook_secret: whsec_c2hvcnQ=}\n",
            [
                "2: alerts.smtp.from: expected an e-mail address, got 'me'",
                "2: alerts.smtp.port: expected a port number, 1 to 65535, got 0",
                "2: alerts.webhook_secret: expected whsec_ and 24 bytes or more in base64, best as ${file:…}, got text",
            ],
        ),
        (
            MINIMAL + "alerts: {smtp: {host: mail, from: me@example.com, username: me}}\n",
            ["2: alerts.smtp: expected username and password together"],
        ),
        (
            MINIMAL + "ledger:\n  events_days: 40\n  hours_days: 20\n",
            [
                "2: ledger.minutes_days: expected at least ledger.events_days, 40, got 32",
                "4: ledger.hours_days: expected at least ledger.minutes_days, 32, got 20",
            ],
        ),
        (MINIMAL + "redis: {cluster: true}\n", ["2: redis.url: is missing: redis.cluster needs the URL of a node"]),
        (
            MINIMAL + "projects: [{id: proj_a, keys: [{name: k}]}]\n",
            ["2: projects[0].keys[0]: expected either hash or secret"],
        ),
        (
            MINIMAL + "projects: [{id: proj_a, keys: [{name: k, secret: s}, {name: l, secret: s}]}]\n",
            ["2: projects[0].keys[1]: is the same key as proj_a/k"],
        ),
        (MINIMAL + "data_dir: !!python/name:os.system x\n", ["2: data_dir: has the YAML tag tag:yaml.org,2002:python/name:os.system, which settings do not use"]),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert complaints(tmp_path, text) == expected


UPSTREAM = "upstreams: {{a: {{base_url: 'http://x/v1', {}}}}}\n"
NO_KEY = "1: upstreams.a.api_key: expected a key: ASCII, without spaces, got text"
SECONDS = "2: timeouts.drain_s: expected a number of seconds above 0, below three years, got "
COUNT = "2: workers.count: expected a whole number from 1 to a billion or 'auto', got "
NO_URL = "expected a URL with a host and, after a colon, a port from 1 to 65535 or nothing"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (UPSTREAM.format(r'api_key: "sk-1\n"'), NO_KEY),
        (UPSTREAM.format(r'api_key: "sk-1\nHost: other"'), NO_KEY),
        (UPSTREAM.format("api_key: schlüssel"), NO_KEY),
        (UPSTREAM.format("headers: {'X Y': a}"), "1: upstreams.a.headers.X Y: expected a header's name, got 'X Y'"),
        (UPSTREAM.format(r'headers: {X: "a\r\nY: b"}'), "1: upstreams.a.headers.X: expected a line of ASCII text, got text"),
        (UPSTREAM.format("organization: my org"), "1: upstreams.a.organization: expected text of ASCII letters without spaces, got 'my org'"),
        (r'upstreams: {a: {base_url: "http://x/v1\n"}}', "1: upstreams.a.base_url: expected an http:// or https:// URL, got 'http://x/v1\\n'"),
        ("upstreams: {a: {base_url: 'http://x:99999/v1'}}", f"1: upstreams.a.base_url: {NO_URL}"),
        ("upstreams: {a: {base_url: 'http://[x/v1'}}", f"1: upstreams.a.base_url: {NO_URL}"),
        (MINIMAL + "control_url: http://x:port", f"2: control_url: {NO_URL}"),
        (MINIMAL + "timeouts: {drain_s: 1e999}", SECONDS + "inf"),
        (MINIMAL + "timeouts: {drain_s: '${N:-" + "9" * 5000 + "}'}", SECONDS + "something else from a variable"),
        (MINIMAL + "workers: {count: " + "9" * 5000 + "}", "2: workers.count: has too many digits"),
        (MINIMAL + "workers: {count: 99999999999999999999}", COUNT + "99999999999999999999"),
        (MINIMAL + r'data_dir: "a\0b"', "2: data_dir: expected a path, got 'a\\x00b'"),
        (MINIMAL + "data_dir: ''", "2: data_dir: expected a path, got ''"),
        (MINIMAL + "listeners: {proxy: {host: ''}}", "2: listeners.proxy.host: expected an address or a host's name, got ''"),
        (
            MINIMAL + "projects: [{id: proj_a, keys: [{name: k, secret: two words}]}]",
            "2: projects[0].keys[0].secret: expected a key: ASCII, without spaces, got text",
        ),
    ],
)  # fmt: skip
def test_what_would_do_harm_later(tmp_path: Path, text: str, expected: str) -> None:
    assert complaints(tmp_path, text) == [expected]


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = "upstreams: {a: {base_url: 1}}\nlogs: {level: x, colour: y}\ncors: 3\n"
    assert [line.split(": ")[1] for line in complaints(tmp_path, text)] == [
        "upstreams.a.base_url",
        "logs.colour",
        "logs.level",
        "cors",
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load_settings(tmp_path / "none.yaml", {})


def test_a_secret_file_that_is_not_there(tmp_path: Path) -> None:
    text = "upstreams: {a: {base_url: 'http://x/v1', api_key: '${file:nowhere}'}}\n"
    assert any("expected to read the file" in line for line in complaints(tmp_path, text))


@pytest.mark.parametrize("nothing", ["", "\n"])
def test_a_secret_file_that_is_empty(tmp_path: Path, nothing: str) -> None:
    (tmp_path / "key").write_text(nothing)
    text = "upstreams: {a: {base_url: 'http://x/v1', api_key: '${file:key}'}}\n"
    assert complaints(tmp_path, text) == [
        f"1: upstreams.a.api_key: expected something in the file {tmp_path}/key: it is empty"
    ]


def test_a_secret_is_not_shown_in_a_complaint(tmp_path: Path) -> None:
    lines = complaints(
        tmp_path,
        MINIMAL + "redis: {url: 'hunter2-secret'}\nadmin_keys: [hunter2]\nlogs: {level: '${L}'}\n",
        L="hunter2",
    )
    assert len(lines) == 3
    assert not any("hunter2" in line for line in lines)
