"""Defaults that clients' and balancers' own times depend on: changing one is a decision, not an edit."""

import pytest

from gateway.settings.model import Bodies, Cors, Timeouts, Upstream

SDK_READ_TIMEOUT_S = 600.0  # the official SDKs wait so long for a byte
BALANCER_IDLE_S = 60.0  # what common load balancers allow an idle connection


def test_times() -> None:
    timeouts = Timeouts()
    assert timeouts.connect_s == 5
    assert timeouts.response_s == timeouts.between_bytes_s == SDK_READ_TIMEOUT_S
    assert timeouts.client_headers_s == 30
    assert (
        Upstream(base_url="http://u/v1").keepalive_s < BALANCER_IDLE_S
    )  # we close before the upstream's balancer does
    assert timeouts.client_keepalive_s > BALANCER_IDLE_S  # and ours before we do


@pytest.mark.parametrize(("name", "mib"), [("json_mib", 64), ("budget_mib", 512), ("form_search_mib", 50)])
def test_sizes(name: str, mib: int) -> None:
    assert getattr(Bodies(), name) == mib


def test_limits_of_heads_and_messages() -> None:
    assert Bodies().headers_kib == 64
    assert Bodies().websocket_message_mib >= 64
    assert Bodies().stream_mib >= 8 * 1024  # the largest upload that OpenAI takes
    assert Cors().origins == []
