"""What commands say to people, and the statuses that they end with."""

import sys

FAILED = 1
USAGE_ERROR = 2  # a mistake in the call or in the settings


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(text: str, status: int = FAILED) -> int:
    """One line about what went wrong; returns the status."""
    sys.stderr.write(f"gateway: {text}\n")
    return status


def complain_of_settings(error: Exception) -> int:
    """A line for each mistake, which names file and place; returns the status."""
    sys.stderr.write(f"{error}\n")
    return USAGE_ERROR
