"""Whoever asks over the command socket."""

from gateway.control.admin.identify import the_operator


async def test_the_operator_may_everything_and_is_named_in_the_audit_log() -> None:
    operator = await the_operator({"User-Agent": "gateway command line"}, "")
    assert operator.is_owner
    assert operator.may("api.organization.projects.api_keys.write", "proj_a")
    actor = operator.actor()
    user = {"id": "operator", "email": None}
    session = {"user": user, "ip_address": "", "user_agent": "gateway command line"}
    assert (actor.id, actor.shown) == ("operator", {"type": "session", "session": session})
