"""Timed texts: segments, words, SubRip and WebVTT."""

from gateway.simulator.call import Json

_TOKENS_PER_SEGMENT = 15


def segments(pieces: list[str], seconds: float) -> list[Json]:
    """A text of known length, cut into segments as verbose transcriptions have them."""
    found: list[Json] = []
    for i, start in enumerate(range(0, len(pieces), _TOKENS_PER_SEGMENT)):
        end = min(start + _TOKENS_PER_SEGMENT, len(pieces))
        found.append(
            {
                "id": i,
                "seek": 0,
                "start": round(seconds * start / len(pieces), 2),
                "end": round(seconds * end / len(pieces), 2),
                "text": "".join(pieces[start:end]),
                "tokens": list(range(50364 + start, 50364 + end)),
                "temperature": 0.0,
                "avg_logprob": -0.25,
                "compression_ratio": 1.5,
                "no_speech_prob": 0.01,
            }
        )
    return found


def words(pieces: list[str], seconds: float) -> list[Json]:
    found = "".join(pieces).split()
    each = seconds / max(1, len(found))
    return [
        {"word": word, "start": round(i * each, 2), "end": round((i + 1) * each, 2)} for i, word in enumerate(found)
    ]


def srt(pieces: list[str], seconds: float) -> str:
    lines = [
        f"{part['id'] + 1}\n{_clock(part['start'], ',')} --> {_clock(part['end'], ',')}\n{part['text'].strip()}\n"
        for part in segments(pieces, seconds)
    ]
    return "\n".join(lines) + "\n"


def vtt(pieces: list[str], seconds: float) -> str:
    lines = [
        f"{_clock(part['start'], '.')} --> {_clock(part['end'], '.')}\n{part['text'].strip()}\n"
        for part in segments(pieces, seconds)
    ]
    return "WEBVTT\n\n" + "\n".join(lines) + "\n"


def _clock(seconds: float, mark: str) -> str:
    whole, millis = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{mark}{millis:03d}"
