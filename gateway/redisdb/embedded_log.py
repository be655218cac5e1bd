"""What Valkey says of itself: its log lines, and how far it has read its files."""

import re
from typing import Literal

Level = Literal["debug", "info", "warning"]
# 16137:M 22 Nov 2026 13:41:06.859 * Ready to accept connections
_LINE = re.compile(r"\d+:[A-Z] \d+ \w+ \d+ [\d:.]+ ([.*#-]) (.*)")


def log_event(line: str) -> tuple[Level, str]:
    """Level and text. Lines of another form (a crash's stack, for one) are passed on whole."""
    match = _LINE.fullmatch(line)
    if match is None:
        return "info", line
    mark, text = match.groups()
    return "warning" if mark == "#" else "info" if mark == "*" else "debug", text


def loading_progress(info: object) -> tuple[float, int] | None:
    """From INFO persistence: percent read and seconds to go, None if the server serves."""
    assert isinstance(info, bytes)
    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    if fields.get("loading") != "1":
        return None
    return float(fields.get("loading_loaded_perc", 0)), int(fields.get("loading_eta_seconds", 0))
