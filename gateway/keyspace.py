"""The contract between the planes: every Redis key, its type, fields, life, writer and reader.

| key                              | type    | holds                              | life       | writer    | reader  |
| -------------------------------- | ------- | ---------------------------------- | ---------- | --------- | ------- |
| `{prefix}:key:<sha256 hex>`      | hash    | `v` version, `d` principal as JSON | for ever   | publisher | auth    |
| `{prefix}:invalidate`            | channel | `<sha256 hex>` of a key            | -          | publisher | auth    |
| `{prefix}:published`             | string  | when all keys were published last  | for ever   | publisher | auth    |
| `{prefix}:keys`                  | set     | hashes of all keys                 | for ever   | publisher | same    |
| `{prefix}:revoked`               | set     | hashes revoked by command          | for ever   | publisher | same    |

publisher: `control/registry/publisher.py`; auth: `proxy/auth`. A publication writes the key and sends the message in
one script, and only if its version is newer than what is there. Without `published` Redis is empty, or new, and that it
does not have a key says nothing of the key.

What belongs to an organization begins with its base, `{prefix}:{<org>}:` with the inner braces, and so is in one slot.
These keys are written and read by the scripts of `accounts/`, which make their names from the base:

| key                | type       | holds                                               | life          |
| ------------------ | ---------- | --------------------------------------------------- | ------------- |
| `usage`            | stream     | `id`, `e` UsageEvent as JSON; read by the ledger    | until folded      |
| `usage:ledger`     | string     | the name of the ledger that folds it                | a minute      |
| `usage:ids:<m>`    | set        | ids of settled events of the minute m               | 10 minutes    |
| `versions`         | hash       | `epoch`, `limits` and `key:<key id>`: versions      | for ever      |
| `limits`           | hash       | `o`, `p:…`, `u:…`, `m:…`, `k:…`: LimitDocument JSON | for ever      |
| `limits:log`       | sorted set | the same fields by the version that wrote them last | for ever      |
| `limits:sources`   | hash       | the registry's version of each of these fields      | for ever      |
| `buckets`          | hash       | buckets and running counts:                         | for ever      |
|                    |            | `b:<kind>:<for>`: full again when, µs/16 since 2026 | 10 s longer   |
|                    |            | `c:<for>`: how many calls run                       | while some do |
| `spend`            | hash       | nano-dollars of windows, by subject:                | for ever      |
|                    |            | `d<day>:<subject>`, days since 1970                 | 40 days       |
|                    |            | `m<yyyymm>:<subject>`                               | 13 months     |
|                    |            | `t:<subject>`, of all time                          | for ever      |
| `r:<id>`           | string     | a reservation, while it lives                       | until it ends |
|                    |            | after a sweep, or a settle ahead of its event, a    | a day         |
|                    |            | note of what that charged                           |               |
|                    |            | after a cancel, or a settle without it, a tombstone | 2 minutes     |
| `leases`           | sorted set | ids of living reservations by when it ends, µs      | while some do |
| `workers`          | sorted set | names of workers by when their own ends, µs         | while some do |
| `refusals`         | stream     | `r` Refusal as JSON, of `accounts/refusals.py`      | the newest    |
| `refusals:told:<m>`| hash       | how many of the minute m were told, of each kind    | 5 minutes     |

<for>: `o:<id>`, `p:<id>`, `u:<id>`, `k:<id>`, `m:<project>:<model>`. <subject>: `o`, `p:<id>`, `u:<id>`, `k:<id>`,
`m:<project>:<user>` (but for service accounts). The
fields of `buckets` and `spend` live so long and until `control/jobs/pruner.py` finds them, once a minute; it also puts
a long value into a field without a name, so that servers keep these hashes as tables.

The stream is trimmed up to what the ledger has. The minute m is that of the event's at_us since 1970; its ids live for
so long after the last write.

`prefix` is the setting `redis.prefix`. Key lookups carry no hash tag: they spread over a cluster's slots.
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
    def published(self) -> str:
        return f"{self.prefix}:published"

    @property
    def keys(self) -> str:
        return f"{self.prefix}:keys"

    @property
    def revoked(self) -> str:
        return f"{self.prefix}:revoked"

    def base(self, organization_id: str) -> str:
        """What the keys of an organization begin with, but for the colon behind it; itself no key."""
        return f"{self.prefix}:{{{organization_id}}}"

    def versions(self, organization_id: str) -> str:
        return f"{self.base(organization_id)}:versions"

    def refusals(self, organization_id: str) -> str:
        return f"{self.base(organization_id)}:refusals"

    def refusals_told(self, organization_id: str, minute: int) -> str:
        return f"{self.base(organization_id)}:refusals:told:{minute}"

    def usage(self, organization_id: str) -> str:
        return f"{self.base(organization_id)}:usage"

    def usage_ids(self, organization_id: str, minute: int) -> str:
        return f"{self.base(organization_id)}:usage:ids:{minute}"
