"""The response headers that OpenAI adds."""

from gateway.clock import Clock
from gateway.simulator.options import SimulatorOptions

REQUESTS_PER_MINUTE = 30_000
TOKENS_PER_MINUTE = 150_000_000


def go_duration(seconds: float) -> str:
    """As Go prints a duration cut to milliseconds: `0s`, `20ms`, `8.64s`, `6m0s`, `11m32.334s`, `1h0m0s`."""
    millis = int(seconds * 1000)
    if millis < 1000:
        return f"{millis}ms" if millis else "0s"
    minutes, rest = divmod(millis, 60_000)
    whole, part = divmod(rest, 1000)
    text = f"{whole}.{part:03d}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"


class Limits:
    """The counters behind `x-ratelimit-*`: continuously refilling buckets, a pair for each model. They never refuse."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float, float]] = {}  # model → requests used, tokens used, when

    def headers(self, model: str, tokens: int) -> list[tuple[str, str]]:
        """The six headers after a request of `tokens` tokens."""
        now = self._clock.monotonic()
        requests_used, tokens_used, then = self._buckets.get(model, (0.0, 0.0, now))
        passed_min = (now - then) / 60
        requests_used = max(0.0, requests_used - passed_min * REQUESTS_PER_MINUTE) + 1
        tokens_used = max(0.0, tokens_used - passed_min * TOKENS_PER_MINUTE) + tokens
        if len(self._buckets) > 1000:
            self._buckets.clear()
        self._buckets[model] = requests_used, tokens_used, now
        return [
            ("x-ratelimit-limit-requests", str(REQUESTS_PER_MINUTE)),
            ("x-ratelimit-limit-tokens", str(TOKENS_PER_MINUTE)),
            ("x-ratelimit-remaining-requests", str(max(0, int(REQUESTS_PER_MINUTE - requests_used)))),
            ("x-ratelimit-remaining-tokens", str(max(0, int(TOKENS_PER_MINUTE - tokens_used)))),
            ("x-ratelimit-reset-requests", go_duration(requests_used / REQUESTS_PER_MINUTE * 60)),
            ("x-ratelimit-reset-tokens", go_duration(tokens_used / TOKENS_PER_MINUTE * 60)),
        ]


def common(options: SimulatorOptions, request_id: str, processing_s: float) -> list[tuple[str, str]]:
    """What every response carries."""
    return [
        ("x-request-id", request_id),
        ("openai-organization", options.organization),
        ("openai-project", options.project),
        ("openai-processing-ms", str(int(processing_s * 1000))),
        ("openai-version", "2020-10-01"),
        ("server", "simulator"),
    ]
