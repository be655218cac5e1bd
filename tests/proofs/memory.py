"""A process's resident memory, and its peak since it was last asked to forget it."""

import re
from pathlib import Path

MIB = 1024 * 1024


def resident_mib(pid: int) -> float:
    return _field(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    return _field(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """From now on the peak is that of what follows (see proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _field(pid: int, name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
