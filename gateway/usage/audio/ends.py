"""A file of which only the beginning and the end are known, and perhaps a little between."""

import msgspec


class Ends(msgspec.Struct, frozen=True):
    """head, tail: its first and last bytes, which overlap in a small file. size: of the whole, in bytes. middle: some
    bytes from the place `middle_at`."""

    head: bytes
    tail: bytes
    size: int
    middle_at: int = 0
    middle: bytes = b""

    def at(self, start: int, length: int) -> bytes:
        """So many bytes from there, fewer or none where they are not known."""
        if start < 0 or length <= 0:
            return b""
        if start + length <= len(self.head):
            return self.head[start : start + length]
        in_tail = start - (self.size - len(self.tail))
        if in_tail >= 0:
            return self.tail[in_tail : in_tail + length]
        in_middle = start - self.middle_at
        if 0 <= in_middle < len(self.middle):
            return self.middle[in_middle : in_middle + length]
        return self.head[start : start + length]

    def number(self, start: int, length: int) -> int:
        """A number written with the largest digit first; 0 where it is not known."""
        found = self.at(start, length)
        return int.from_bytes(found) if len(found) == length else 0

    def little(self, start: int, length: int) -> int:
        """A number written with the smallest digit first; 0 where it is not known."""
        found = self.at(start, length)
        return int.from_bytes(found, "little") if len(found) == length else 0
