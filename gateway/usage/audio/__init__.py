"""How long an uploaded audio file plays, from its size and its two ends."""

from gateway.usage.audio.duration import MIDDLE, duration_ms, place_of_interest

__all__ = ["MIDDLE", "duration_ms", "place_of_interest"]
