"""Places in a stream, as Redis names them: `1700000000000-0`, milliseconds since 1970 and a number."""


def place(position: str) -> tuple[int, int]:
    """In an order that can be compared. Empty: before all others."""
    ms, _, number = position.partition("-")
    return int(ms or 0), int(number or 0)


def next_to(position: str) -> str:
    """The first place that is behind it."""
    ms, number = place(position)
    return f"{ms}-{number + 1}"
