"""How long an uploaded audio file plays, from its size and its two ends."""

from gateway.usage.audio.duration import duration_ms

__all__ = ["duration_ms"]
