"""Usage events for tests, and what of them has reached a server."""

import msgspec

from gateway.accounts.usage_stream import Packed, pack
from gateway.keyspace import Keyspace
from gateway.values import Quantities, UsageEvent, UsageLine
from tests.fakes.redis_servers import Server

ORG = "org-gateway"
KEYS = Keyspace()
AT_US = 1_800_000_000_000_000
MINUTE = AT_US // 60_000_000
PATIENT = 5_000  # ms: a deadline for tests that are not about it, on machines that are busy


def event(number: int | str, *, at_us: int = AT_US, organization_id: str = ORG, end_user: str = "") -> UsageEvent:
    return UsageEvent(
        id=f"req_{number}",
        at_us=at_us,
        organization_id=organization_id,
        project_id="proj_1",
        user_id="user_1",
        key_id="key_1",
        operation="createChatCompletion",
        category="completions",
        status=200,
        end_user=end_user,
        lines=(
            UsageLine(
                upstream="openai",
                category="completions",
                request_model="gpt-4o-mini",
                upstream_model="gpt-4o-mini",
                response_model="gpt-4o-mini-2024-07-18",
                service_tier="default",
                quantities=Quantities(input_tokens=321, cached_tokens=128, output_tokens=45),
                nano_usd=75_150,
            ),
        ),
    )


def packed(*numbers: int | str) -> list[Packed]:
    return [pack(event(number)) for number in numbers]


def ids(*numbers: int | str) -> list[str]:
    return [f"req_{number}" for number in numbers]


def streamed(server: Server, organization_id: str = ORG) -> list[str]:
    """The ids in the stream, in order."""
    found = server.command("XRANGE", KEYS.usage(organization_id), "-", "+")
    for _, fields in found:
        assert msgspec.json.decode(fields[3])["id"] == fields[1].decode()
    return [fields[1].decode() for _, fields in found]
