"""The contract between the planes: every Redis key, its type, fields, life, writer and reader.

| key                              | type    | holds                              | life       | writer    | reader  |
| -------------------------------- | ------- | ---------------------------------- | ---------- | --------- | ------- |
| `{prefix}:key:<sha256 hex>`      | hash    | `v` version, `d` principal as JSON | for ever   | publisher | auth    |
| `{prefix}:invalidate`            | channel | `<sha256 hex>` of a key            | -          | publisher | auth    |
| `{prefix}:declared`              | set     | hashes of keys from settings files | for ever   | publisher | same    |
| `{prefix}:revoked`               | set     | hashes revoked by command          | for ever   | publisher | same    |
| `{prefix}:{<org>}:usage`         | stream  | `id`, `e` UsageEvent as JSON       | trimmed    | outbox    | trimmer |
| `{prefix}:{<org>}:usage:ids:<m>` | set     | ids of events of the minute m      | 10 minutes | outbox    | same    |

publisher: `control/registry/publisher.py`; auth: `proxy/auth`; outbox: `accounts/usage_stream.py` for `proxy/metering`;
trimmer: `control/jobs/usage_trimmer.py`. A publication writes the key and sends the message in one script, and only if
its version is newer than what is there. A usage event is appended in one script, and only if its minute (of its at_us,
since 1970) does not know its id; the ids live for so long after the last write.

`prefix` is the setting `redis.prefix`. Key lookups carry no hash tag: they spread over a cluster's slots. What belongs
to an organization carries its id as the tag, with the braces, and so is in one slot; the counters and reservations will
be there too (see the Admission issue).
"""

import msgspec


class Keyspace(msgspec.Struct, frozen=True):
    """The names of all keys, under one prefix."""

    prefix: str = "gateway"

    def key(self, key_hash: str) -> str:
        return f"{self.prefix}:key:{key_hash}"

    @property
    def invalidate(self) -> str:
        return f"{self.prefix}:invalidate"

    @property
    def declared(self) -> str:
        return f"{self.prefix}:declared"

    @property
    def revoked(self) -> str:
        return f"{self.prefix}:revoked"

    def usage(self, organization_id: str) -> str:
        return f"{self.prefix}:{{{organization_id}}}:usage"

    def usage_ids(self, organization_id: str, minute: int) -> str:
        return f"{self.prefix}:{{{organization_id}}}:usage:ids:{minute}"
