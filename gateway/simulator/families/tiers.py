"""Service tiers."""

from gateway.simulator import errors
from gateway.simulator.call import Json


def served_tier(body: Json) -> str:
    """The tier that the answer names: `fast` is served as `priority`, `auto` as `default`. Raises ApiError."""
    asked = body.get("service_tier") or "auto"
    if not isinstance(asked, str):
        raise errors.wrong_type("service_tier", "a string", asked)
    if asked in {"auto", "default", "standard"}:
        return "default"
    if asked in {"fast", "priority"}:
        return "priority"
    if asked in {"flex", "scale", "ultrafast"}:
        return str(asked)
    raise errors.wrong_value("service_tier", asked, ("auto", "default", "flex", "priority", "fast", "scale"))
