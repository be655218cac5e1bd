"""Valkey's and Redis' log lines, as they were seen."""

import pytest

from gateway.redisdb.embedded_log import Level, loading_progress, log_event


@pytest.mark.parametrize(
    ("line", "level", "text"),
    [
        ("16137:M 22 Nov 2026 13:41:06.859 * Ready to accept", "info", "Ready to accept"),
        ("1:C 22 Nov 2026 13:41:06.859 # WARNING overcommit", "warning", "WARNING overcommit"),
        ("1:M 02 Nov 2026 13:41:06.859 - DB 0: 1 keys", "debug", "DB 0: 1 keys"),
        ("1:M 02 Nov 2026 13:41:06.859 . noise", "debug", "noise"),
        ("1:signal-handler (1795354868) Received SIGTERM", "info", "1:signal-handler (1795354868) Received SIGTERM"),
        ("Bad directive", "info", "Bad directive"),
        ("", "info", ""),
    ],
)  # fmt: skip
def test_lines(line: str, level: Level, text: str) -> None:
    assert log_event(line) == (level, text)


def test_progress() -> None:
    assert loading_progress(b"# Persistence\r\nloading:0\r\n") is None
    info = b"loading:1\r\nloading_loaded_perc:12.50\r\nloading_eta_seconds:7\r\n"
    assert loading_progress(info) == (12.5, 7)
    assert loading_progress(b"loading:1\r\n") == (0.0, 0)
