"""Is this server one that limits and usage can be kept in?"""

from gateway.redisdb.client import Client
from gateway.redisdb.failures import RedisMisconfigured, RedisReplyError

OLDEST_REDIS = (7, 0)
_OVERRIDE = "redis.allow_volatile: true accepts that"


async def check_server(client: Client, *, allow_volatile: bool = False) -> list[str]:
    """Checks every primary; returns warnings. Raises RedisMisconfigured with all that is wrong, or RedisLost.

    Wrong is a Redis before 7.0, a replica, a cluster that is not set as one (or the other way round), and, unless
    `allow_volatile` (then these are warnings), a server that may evict keys or that keeps nothing on disk.
    What a managed service does not let us find out is a warning.
    """
    wrong: list[str] = []
    warnings: list[str] = []
    infos = [_info(reply) for reply in await client.on_each_primary("INFO")]
    saves = await _saves(client, len(infos))
    for info, save in zip(infos, saves, strict=True):
        wrong += [p for p in (version_problem(info), mode_problem(info, cluster=client.target.cluster)) if p]
        volatile, unknown = volatility(info, save)
        warnings += unknown
        if allow_volatile:
            warnings += volatile
        else:
            wrong += [f"{problem} ({_OVERRIDE})" for problem in volatile]
    if wrong:
        raise RedisMisconfigured("; ".join(dict.fromkeys(wrong)))
    return list(dict.fromkeys(warnings))


def version_problem(info: dict[str, str]) -> str | None:
    """Any Valkey will do: the first one is already 7.2."""
    version = info.get("redis_version", "")
    if "valkey_version" in info:
        return None
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_REDIS:
        return f"Redis {version or 'of unknown version'} is too old: 7.0 or newer, or Valkey, is needed"
    return None


def mode_problem(info: dict[str, str], *, cluster: bool) -> str | None:
    enabled = info.get("cluster_enabled") == "1"
    if enabled and not cluster:
        return "the server is a node of a cluster: set redis.cluster to true"
    if info.get("role") == "slave":
        return "the server is a replica: redis.url must name its primary"
    if cluster and not enabled:
        return "the server is not a node of a cluster: set redis.cluster to false"
    return None


def volatility(info: dict[str, str], save: str | None) -> tuple[list[str], list[str]]:
    """What could lose data, and what could not be found out. `save`: CONFIG's `save`, None where it was refused."""
    problems: list[str] = []
    unknown: list[str] = []
    policy = info.get("maxmemory_policy")
    if policy is None:
        unknown.append("the server does not say its maxmemory-policy: it must be noeviction")
    elif policy != "noeviction":
        problems.append(f"maxmemory-policy is {policy}, it must be noeviction, or counters may vanish")
    if info.get("aof_enabled") != "1":
        if save is None:
            unknown.append("the server does not say whether it keeps data on disk: appendonly should be yes")
        elif not save:
            problems.append("nothing is kept on disk: appendonly must be yes, or save must be set")
    return problems, unknown


def _info(reply: object) -> dict[str, str]:
    """INFO as redis-py parses it, with the values as text again; raw where it does not."""
    if isinstance(reply, dict):
        return {str(name): str(value) for name, value in reply.items()}
    assert isinstance(reply, bytes)
    lines = (line.partition(":") for line in reply.decode().splitlines() if not line.startswith("#"))
    return {name: value for name, colon, value in lines if colon}


async def _saves(client: Client, servers: int) -> list[str | None]:
    try:
        replies = await client.on_each_primary("CONFIG", "GET", "save")
    except RedisReplyError:  # NOPERM, or a command that is not there
        return [None] * servers
    return [_config_value(reply) for reply in replies]


def _config_value(reply: object) -> str | None:
    pairs = list(reply.items()) if isinstance(reply, dict) else []
    if isinstance(reply, list) and len(reply) == 2:
        pairs = [(reply[0], reply[1])]
    if not pairs:
        return None
    value = pairs[0][1]
    return value.decode() if isinstance(value, bytes) else str(value or "")
