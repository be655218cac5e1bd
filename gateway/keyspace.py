"""The contract between the planes: every Redis key, its type, fields, life, writer and reader.

| key                         | type    | holds                              | life     | writer    | reader |
| --------------------------- | ------- | ---------------------------------- | -------- | --------- | ------ |
| `{prefix}:key:<sha256 hex>` | hash    | `v` version, `d` principal as JSON | for ever | publisher | auth   |
| `{prefix}:invalidate`       | channel | `<sha256 hex>` of a key            | -        | publisher | auth   |
| `{prefix}:declared`         | set     | hashes of keys from settings files | for ever | publisher | same   |
| `{prefix}:revoked`          | set     | hashes revoked by command          | for ever | publisher | same   |

publisher: `control/registry/publisher.py`; auth: `proxy/auth`. A publication writes the key and sends the message in
one script, and only if its version is newer than what is there.

`prefix` is the setting `redis.prefix`. Key lookups carry no hash tag: they spread over a cluster's slots. The counters,
reservations and the usage stream of an organization will carry the tag `{org}` (see the Admission issue).
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
