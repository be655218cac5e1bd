"""The shape of the settings, with every default. Frozen; what YAML may say is exactly what stands here.

Each field's comment is its documentation: `.ci/settings_doc.py` makes `docs/settings.md` from this file,
`limits.py` and `tokens.py`, and `.ci/run` compares them. Durations end in `_s` (seconds), sizes in `_mib` or `_kib`.
"""

import hashlib
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from gateway.settings.forms import (
    AdminKey,
    Base,
    Count,
    Days,
    EmailAddress,
    Factor,
    FilePath,
    HeaderName,
    HeaderSecret,
    HeaderWord,
    Host,
    HttpUrl,
    KeyHash,
    KeyText,
    Name,
    Port,
    RedisUrl,
    Seconds,
    Share,
    SqlUrl,
    TargetPort,
    Usd,
    WebhookSecret,
)
from gateway.settings.limits import Limits, ProjectLimits, SubjectLimits
from gateway.settings.tokens import Tokens
from gateway.values import Secret


class Listener(Base, frozen=True):
    host: Host = "127.0.0.1"  # address to listen on; 0.0.0.0 or :: for all
    port: Port = 0  # port; 0 lets the system choose


class Listeners(Base, frozen=True):
    proxy: Listener = Listener(port=8080)  # where clients call /v1
    operations: Listener = Listener(port=9090)  # /livez, /readyz and /metrics; never public
    admin: Listener | None = None  # the admin API on a listener of its own, beside its place under the proxy's /v1


class Workers(Base, frozen=True):
    count: Count | Literal["auto"] = "auto"  # worker processes; auto is one a CPU
    max_in_flight: Count = 10_000  # requests at once in one worker; beyond it 503
    max_connections: Count = 20_000  # client connections at once in one worker; beyond it new ones are closed


class Tls(Base, frozen=True):
    ca_file: FilePath | None = None  # certificates to trust instead of the system's
    cert_file: FilePath | None = None  # our own certificate, where the server asks for one
    key_file: FilePath | None = None  # the key of cert_file
    verify: bool = True  # false accepts any certificate: for tests only


class Sentinel(Base, frozen=True):
    nodes: Annotated[list[str], Meta(min_length=1, description="a list of host:port")]  # sentinels as host:port
    service: str  # the name of the monitored primary
    username: str | None = None  # for the sentinels themselves
    password: Secret | None = None  # for the sentinels themselves


class Redis(Base, frozen=True):
    url: RedisUrl | None = None  # null starts an embedded Valkey in data_dir
    cluster: bool = False  # url names a node of a Redis Cluster
    sentinel: Sentinel | None = None  # find the primary through sentinels; url then gives database and options only
    username: str | None = None  # instead of the URL's
    password: Secret | None = None  # instead of the URL's
    tls: Tls = Tls()  # for rediss:// URLs
    prefix: Name = "gateway"  # of every key, so that several gateways can share a server
    binary: FilePath | None = None  # the server program for the embedded Valkey; null finds one
    deadline_ms: Annotated[int, Meta(ge=1, le=10_000, description="milliseconds, 1 to 10000")] = 50  # for a hot call
    breaker_failures: Count = 5  # failed hot calls in a row that open the breaker
    breaker_open_s: Seconds = 1.0  # how long it stays open before one call may try
    allow_volatile: bool = False  # accept a server that may evict or that keeps nothing on disk


class Database(Base, frozen=True):
    url: SqlUrl | None = None  # null is a SQLite file in data_dir


class UpstreamReconciliation(Base, frozen=True):
    """Reads the upstream's own usage and costs (OpenAI's organization API), to be compared with the ledger."""

    admin_key: KeyText  # an admin key of the upstream's organization that may read usage, best as ${file:…}
    project_ids: list[HeaderWord] = field(default_factory=list)  # its projects that are the gateway's alone; none: all
    api_key_ids: list[HeaderWord] = field(default_factory=list)  # its API keys that are the gateway's alone; none: all


class Upstream(Base, frozen=True):
    base_url: HttpUrl  # up to and with /v1; what follows /v1 in a client's path is appended
    api_key: KeyText | None = None  # the upstream's own key; null sends none
    auth: Literal["bearer", "api-key", "none"] = "bearer"  # how api_key is sent
    organization: HeaderWord | None = None  # OpenAI-Organization to send
    project: HeaderWord | None = None  # OpenAI-Project to send
    headers: dict[HeaderName, HeaderSecret] = field(default_factory=dict)  # further headers to send
    tls: Tls = Tls()  # for https:// URLs
    max_connections: Count | None = None  # connections of one worker; null is unlimited
    keepalive_s: Seconds = 45.0  # idle connections are closed after this; keep it below the upstream's own
    include_usage: Literal["ask", "never"] = "ask"  # ask for a chat stream's usage where the client does not; see docs
    reconciliation: UpstreamReconciliation | None = None  # compare the ledger with its own usage; null does not


class RouteTarget(Base, frozen=True):
    upstream: str  # the name of an upstream
    upstream_model: str | None = None  # the model's name there, where it differs


class Route(Base, frozen=True):
    models: Annotated[
        list[str], Meta(min_length=1, description="a list of model names, in which * stands for anything")
    ]  # which models; the first route that matches is taken; a call without a model takes the first that has "*"
    upstreams: Annotated[
        list[str | RouteTarget],
        Meta(min_length=1, description="a list of upstream names or {upstream, upstream_model}"),
    ]  # where they go; the next one only if a connection to the one before cannot be made


class Timeouts(Base, frozen=True):
    connect_s: Seconds = 5.0  # connecting to an upstream, TLS included
    response_s: Seconds = 600.0  # from the request's last byte to the response's headers
    between_bytes_s: Seconds = 600.0  # between two reads of a response, and of a WebSocket that is silent both ways
    client_headers_s: Seconds = 30.0  # from a request's first byte to its last header
    client_body_s: Seconds = 60.0  # between two reads of a request's body
    client_keepalive_s: Seconds = 75.0  # an idle client connection; keep it above the load balancer's own
    body_wait_s: Seconds = 10.0  # waiting for a share of the body budget; then 503
    drain_s: Seconds = 30.0  # on SIGTERM, for what is in flight; then streams end with an error event
    reload_drain_s: Seconds = 3600.0  # on a reload, the same for what the old workers still do
    drain_idle_s: Seconds = 5.0  # how long an idle client connection is kept while draining


class Bodies(Base, frozen=True):
    json_mib: Count = 64  # a JSON body, decoded; beyond it 413
    stream_mib: Count = 8_192  # any other body; beyond it 413
    budget_mib: Count = 512  # all buffered bodies of one worker together
    form_search_mib: Count = 50  # how much of a multipart body may be held while looking for its model
    headers_kib: Count = 64  # all headers of a request; beyond it 431
    websocket_message_mib: Count = 128  # one WebSocket message


class Cors(Base, frozen=True):
    origins: list[str] = field(default_factory=list)  # origins that browsers may call from; "*" for all


class Key(Base, frozen=True):
    name: Name  # for people; unique within the project
    hash: KeyHash | UnsetType = UNSET  # of the key, instead of the key itself
    secret: KeyText | UnsetType = UNSET  # the key itself, best as ${file:…}
    user: str | None = None  # whom the key's usage counts for; null is the key's own service account
    expires_at: Annotated[int, Meta(ge=1, le=253_402_300_799, description="seconds since 1970")] | None = None  # UTC
    limits: SubjectLimits = SubjectLimits()  # its own

    def hashed(self) -> str:
        """The key's hash as 64 hex digits, whichever way it was declared."""
        if isinstance(self.secret, Secret):
            return hashlib.sha256(self.secret.reveal().encode()).hexdigest()
        assert isinstance(self.hash, str), "load.contradictions() refuses a key with neither"
        return self.hash.removeprefix("sha256:")


class Project(Base, frozen=True):
    id: Annotated[
        str, Meta(pattern=r"^proj_[A-Za-z0-9_-]{1,64}\Z", description="proj_ and letters, digits, _ -")
    ]  # as clients and logs name it
    name: str = ""  # for people
    keys: list[Key] = field(default_factory=list)  # API keys of the project
    limits: ProjectLimits = ProjectLimits()  # its own, and what its keys have


class Rates(Base, frozen=True):
    """What units cost. A unit without a rate costs what its model's other rates or the ceiling say: docs/prices.md."""

    input_tokens: Usd | None = None  # a million tokens of input: text, and all else that has no rate of its own
    cached_tokens: Usd | None = None  # a million of them read from the prompt cache
    cache_write_tokens: Usd | None = None  # a million of them written to it for 30 minutes
    cache_write_12h_tokens: Usd | None = None  # the same for 12 hours
    output_tokens: Usd | None = None  # a million tokens of output, reasoning included
    input_audio_tokens: Usd | None = None  # a million tokens of audio in the input
    cached_audio_tokens: Usd | None = None  # a million of them read from the prompt cache
    output_audio_tokens: Usd | None = None  # a million tokens of audio in the output
    input_image_tokens: Usd | None = None  # a million tokens of images in the input
    cached_image_tokens: Usd | None = None  # a million of them read from the prompt cache
    output_image_tokens: Usd | None = None  # a million tokens of images in the output
    trained_tokens: Usd | None = None  # a million tokens of training, epochs counted
    characters: Usd | None = None  # a million characters that are spoken
    images: Usd | None = None  # one image, of whatever size and quality
    audio_minutes: Usd | None = None  # a minute of audio
    video_seconds: Usd | None = None  # a second of video, of whatever size
    web_searches: Usd | None = None  # a thousand web searches
    file_searches: Usd | None = None  # a thousand file searches
    sessions: Usd | None = None  # one container of the code interpreter
    storage_gib_days: Usd | None = None  # a GiB of vector store for a day


class ModelPrice(Rates, frozen=True):
    """A model's own rates. What is not written is as for the model of this name that the gateway knows, if any."""

    like: str | None = None  # a model whose rates hold where none are written; null is the one of this name
    factor: Factor = 1.0  # times the rates that are not written here: 0.9 for a discount of 10 %
    flex: Rates | None = None  # where they differ in this service tier
    priority: Rates | None = None  # where they differ in this service tier
    batch: Rates | None = None  # where they differ in the batch API


class Prices(Base, frozen=True):
    """In dollars. The gateway knows OpenAI's list prices; here stands what differs."""

    unknown_model: Literal["ceiling", "refuse"] = "ceiling"  # calls to a model without prices: at the ceiling, or not
    ceiling: Rates = Rates()  # what a model without prices costs; a unit not written: its dearest known rate
    models: dict[str, ModelPrice] = field(default_factory=dict)  # by name, as responses give it; * stands for anything


class Usage(Base, frozen=True):
    spool_dir: FilePath | None = None  # where usage waits on disk while Redis is away; null is `spool` in data_dir
    spool_mib: Count = 1_024  # all that waits there; beyond it usage is kept in memory for a while and then lost
    stream_events: Count = 1_000_000  # calls whose usage waits in Redis to be folded; that of more waits on disk
    label_user: bool = False  # metrics of usage say which user; one series more for each
    label_key: bool = False  # metrics of usage say which key; one series more for each


class Ledger(Base, frozen=True):
    """How long usage is kept, in whole days. Days of usage and costs are kept for ever."""

    minutes_days: Days = 32  # usage by the minute
    hours_days: Days = 400  # usage and costs by the hour
    events_days: Days = 7  # single calls; usage that was spooled for longer is set aside


class Reconciliation(Base, frozen=True):
    """Each day of the ledger is compared with what upstreams say of it, where they are asked: docs/operations.md."""

    after_s: Seconds = 21_600.0  # how long after a day's end (UTC) its upstreams' usage is whole
    tolerance: Share = 0.01  # how far both may be apart, 0 to 1, before `gateway reconcile` fails


class Smtp(Base, frozen=True):
    host: Host  # the server that takes our mail
    sender: EmailAddress = field(name="from")  # the sender's address
    port: TargetPort = 587  # where it listens
    starttls: bool = True  # encrypt before anything else is said; the server's certificate must be valid for host
    username: str | None = None  # to log in with; null does not log in
    password: Secret | None = None  # to log in with, best as ${file:…}


class Alerts(Base, frozen=True):
    """Spend alerts are made in the admin API; here stands what tells of them."""

    smtp: Smtp | None = None  # for alerts by e-mail; null sends none
    webhook_secret: WebhookSecret | None = None  # signs alerts by webhook (Standard Webhooks); null sends none
    webhook_allowed_hosts: list[Host] = field(
        default_factory=list
    )  # hosts in URLs of webhooks that may have addresses that are not public


class Logs(Base, frozen=True):
    level: Literal["debug", "info", "warning", "error"] = "info"  # of events; access lines are separate
    access: bool = True  # one line a request


class Settings(Base, frozen=True, kw_only=True):
    """Everything. What is not written has the default that stands here."""

    listeners: Listeners = Listeners()
    workers: Workers = Workers()
    data_dir: FilePath = "./data"  # Valkey's and SQLite's files, sockets, the lock; relative to the settings file
    redis: Redis = Redis()
    database: Database = Database()
    upstreams: Annotated[dict[Name, Upstream], Meta(min_length=1, description="a mapping of one upstream or more")]
    routes: list[Route] = field(default_factory=list)  # none sends every model to the first upstream
    timeouts: Timeouts = Timeouts()
    bodies: Bodies = Bodies()
    cors: Cors = Cors()
    usage: Usage = Usage()
    ledger: Ledger = Ledger()
    reconciliation: Reconciliation = Reconciliation()
    alerts: Alerts = Alerts()
    logs: Logs = Logs()
    limits: Limits = Limits()
    organization_id: Annotated[
        str, Meta(pattern=r"^org-[A-Za-z0-9_-]{1,64}\Z", description="org- and letters, digits, _ -")
    ] = "org-gateway"  # whose all projects here are
    projects: list[Project] = field(default_factory=list)
    prices: Prices = Prices()
    admin_keys: list[AdminKey] = field(
        default_factory=list
    )  # keys of the admin API; they do not work on the data plane
    tokens: Tokens = Tokens()
    unknown_paths: Literal["forward", "deny"] = "forward"  # what to do with /v1 paths that the gateway does not know
    allow_unmetered: bool = False  # let through what opens a way around metering (/realtime/calls, client secrets)
    control_url: HttpUrl | None = None  # where administrative calls go; null: to the control process of `gateway serve`
