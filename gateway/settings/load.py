"""From a file to frozen settings, or to the whole list of what is wrong with it."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import inspect
from msgspec.structs import replace

from gateway.settings.check import Checker
from gateway.settings.limits_check import limit_problems
from gateway.settings.model import Ledger, RouteTarget, Settings, Tls
from gateway.settings.tokens import token_problems
from gateway.settings.transfer import convert
from gateway.settings.tree import Place, Problem, Tree, read_tree
from gateway.values import Secret

_URL = "expected a URL with a host and, after a colon, a port from 1 to 65535 or nothing"
_TLS_FILES = ("ca_file", "cert_file", "key_file")


class SettingsError(Exception):
    """Everything that is wrong with a settings file, a line each: `file:line: path: what is expected`."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.problems = problems
        ordered = sorted(problems, key=lambda p: (p.line, [str(part) for part in p.place]))
        super().__init__("\n".join(f"{source}:{p.line}: {written(p.place)}: {p.text}" for p in ordered))


def written(place: Place) -> str:
    """A place as people write it: `upstreams.openai.base_url`, `routes[0].models`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the file"


Check = Callable[[Settings], Iterator[tuple[Place, str]]]
"""Looks at settings as a whole: where something is wrong, and what."""


def load_settings(path: Path, environment: Mapping[str, str], *checks: Check) -> Settings:
    """Reads, fills in, checks. Raises SettingsError with all problems at once. Relative paths count from the file.

    checks: what only other rooms know to look for.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not UTF-8 text"
        raise SettingsError(str(path), [Problem(0, (), f"cannot be read: {reason}")]) from None
    tree = read_tree(text, path.parent, environment)
    settings = _placed(_read(tree, str(path)), path.parent)
    problems = [
        Problem(tree.line(place), place, text)
        for check in (contradictions, _unusable_files, *checks)
        for place, text in check(settings)
    ]
    if problems:
        raise SettingsError(str(path), problems)
    return settings


def _read(tree: Tree, source: str) -> Settings:
    """Settings from a tree of the right form; `source` is what error messages call it."""
    checker = Checker(tree)
    root = {} if tree.root is None else tree.root
    plain = checker.check(root, inspect.type_info(Settings), ())
    known = {problem.place for problem in tree.problems}
    problems = tree.problems + [p for p in checker.problems if not ({p.place, ()} & known)]
    if problems:
        raise SettingsError(source, problems)
    return convert(plain)


def _placed(settings: Settings, folder: Path) -> Settings:
    """The same settings with whole paths."""

    def files(tls: Tls) -> Tls:
        named = {name: getattr(tls, name) for name in _TLS_FILES}
        return replace(tls, **{name: str(folder / file) for name, file in named.items() if file is not None})

    spool_dir = settings.usage.spool_dir
    issuers = [
        replace(one, jwks_file=str(folder / one.jwks_file)) if one.jwks_file is not None else one
        for one in settings.tokens.issuers
    ]
    return replace(
        settings,
        data_dir=str((folder / settings.data_dir).resolve()),
        redis=replace(settings.redis, tls=files(settings.redis.tls)),
        usage=replace(settings.usage, spool_dir=str((folder / spool_dir).resolve()) if spool_dir is not None else None),
        tokens=replace(settings.tokens, issuers=issuers),
        upstreams={name: replace(upstream, tls=files(upstream.tls)) for name, upstream in settings.upstreams.items()},
    )


def _unusable_files(settings: Settings) -> Iterator[tuple[Place, str]]:
    """Certificates and keys that are none: better said here than by a process that cannot start."""
    for index, issuer in enumerate(settings.tokens.issuers):
        if (problem := _unreadable(issuer.jwks_file)) is not None:
            yield ("tokens", "issuers", index, "jwks_file"), problem
    places: list[tuple[Place, Tls]] = [(("redis", "tls"), settings.redis.tls)]
    places += [(("upstreams", name, "tls"), upstream.tls) for name, upstream in settings.upstreams.items()]
    for place, tls in places:
        unreadable = {name: problem for name in _TLS_FILES if (problem := _unreadable(getattr(tls, name)))}
        yield from (((*place, name), problem) for name, problem in unreadable.items())
        if tls.ca_file is not None and "ca_file" not in unreadable:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(tls.ca_file)
            except ssl.SSLError:
                yield (*place, "ca_file"), f"expected certificates in PEM form in {tls.ca_file}"
        if tls.cert_file is not None and tls.key_file is not None and not unreadable.keys() & {"cert_file", "key_file"}:
            try:
                # Without the function it would ask whoever sits at the terminal.
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(tls.cert_file, tls.key_file, lambda: "")
            except ssl.SSLError:
                text = f"expected a certificate in {tls.cert_file} and its key, without a password, in {tls.key_file}"
                yield (*place, "cert_file"), f"{text}, both in PEM form"


def _unreadable(file: str | None) -> str | None:
    try:
        if file is not None:
            Path(file).open("rb").close()
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    return None


def contradictions(settings: Settings) -> Iterator[tuple[Place, str]]:
    """What single fields cannot know."""
    yield from _routes(settings)
    yield from _keys(settings)
    yield from limit_problems(settings)
    yield from token_problems(settings.tokens)
    redis = settings.redis
    if redis.cluster and redis.sentinel:
        yield ("redis", "sentinel"), "cannot be combined with redis.cluster: choose one"
    if redis.cluster and redis.url is None:
        yield ("redis", "url"), "is missing: redis.cluster needs the URL of a node"
    yield from _retention(settings.ledger)
    smtp = settings.alerts.smtp
    if smtp is not None and (smtp.username is None) != (smtp.password is None):
        yield ("alerts", "smtp"), "expected username and password together"
    if settings.control_url is not None and _no_url(settings.control_url):
        yield ("control_url",), _URL
    for name, upstream in settings.upstreams.items():
        if bool(upstream.tls.cert_file) != bool(upstream.tls.key_file):
            yield ("upstreams", name, "tls"), "expected cert_file and key_file together"
        if _no_url(upstream.base_url):
            yield ("upstreams", name, "base_url"), _URL
        elif "/../" in f"{upstream.base_url}/":
            yield ("upstreams", name, "base_url"), "expected a URL without .. in its path"


def _retention(ledger: Ledger) -> Iterator[tuple[Place, str]]:
    """What is folded or asked for must find the coarser rows."""
    for longer, shorter in (("minutes_days", "events_days"), ("hours_days", "minutes_days")):
        days, least = getattr(ledger, longer), getattr(ledger, shorter)
        if days < least:
            yield ("ledger", longer), f"expected at least ledger.{shorter}, {least}, got {days}"


def _no_url(url: str) -> bool:
    """Whether something that begins like a URL has no host, or a port that is none."""
    try:
        parts = urlsplit(url)
        return not parts.hostname or parts.port == 0
    except ValueError:
        return True


def _routes(settings: Settings) -> Iterator[tuple[Place, str]]:
    for index, route in enumerate(settings.routes):
        for position, target in enumerate(route.upstreams):
            name = target.upstream if isinstance(target, RouteTarget) else target
            if name not in settings.upstreams:
                known = ", ".join(settings.upstreams)
                yield (
                    ("routes", index, "upstreams", position),
                    f"expected the name of an upstream ({known}), got {name!r}",
                )


def _keys(settings: Settings) -> Iterator[tuple[Place, str]]:
    seen_projects: set[str] = set()
    seen_hashes: dict[str, str] = {}
    for number, project in enumerate(settings.projects):
        if project.id in seen_projects:
            yield ("projects", number, "id"), f"is the id of an earlier project too: {project.id}"
        seen_projects.add(project.id)
        names: set[str] = set()
        for position, key in enumerate(project.keys):
            place: Place = ("projects", number, "keys", position)
            if isinstance(key.secret, Secret) == isinstance(key.hash, str):
                yield place, "expected either hash or secret"
                continue
            if key.name in names:
                yield (*place, "name"), f"is the name of an earlier key of this project too: {key.name}"
            names.add(key.name)
            full_name = f"{project.id}/{key.name}"
            if (other := seen_hashes.setdefault(key.hashed(), full_name)) != full_name:
                yield place, f"is the same key as {other}"
