"""OpenAI's errors, as the simulator raises them. The wire form is `{"error": {message, type, param, code}}`.

Texts are those that OpenAI's API was seen to send; they are written down here a second time on purpose, for the
simulator shares nothing with what it checks.
"""

import msgspec

_INVALID = "invalid_request_error"
_KEYS_PAGE = "https://platform.openai.com/account/api-keys"


class ApiError(Exception):
    """One refusal. headers: besides the content's own."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = _INVALID,  # noqa: A002 - OpenAI's word
        param: str | None = None,
        code: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.type, self.param, self.code = status, message, type, param, code
        self.headers = headers

    def value(self) -> dict[str, object]:
        """What is inside the envelope."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}

    def body(self) -> bytes:
        return msgspec.json.encode({"error": self.value()})


class CutError(ConnectionError):
    """The simulator itself has closed the connection."""


def internal() -> ApiError:
    message = "The server had an error while processing your request. Sorry about that!"
    return ApiError(500, message, type="server_error")


def no_key() -> ApiError:
    return ApiError(
        401,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
        "(i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the "
        "API from your browser and are prompted for a username and password. You can obtain an API key from "
        f"{_KEYS_PAGE}.",
    )


def wrong_key(key: str) -> ApiError:
    shown = f"{key[:8]}{'*' * max(4, len(key) - 12)}{key[-4:]}" if len(key) > 16 else "*" * len(key)
    return ApiError(
        401,
        f"Incorrect API key provided: {shown}. You can find your API key at {_KEYS_PAGE}.",
        code="invalid_api_key",
    )


def mismatched_organization() -> ApiError:
    return ApiError(
        401, "OpenAI-Organization header should match organization for API key", code="mismatched_organization"
    )


def missing_scopes(scopes: str) -> ApiError:
    return ApiError(403, f"You have insufficient permissions for this operation. Missing scopes: {scopes}.")


def unknown_path(method: str, path: str) -> ApiError:
    return ApiError(404, f"Invalid URL ({method} {path})")


def unknown_model(model: str) -> ApiError:
    return ApiError(404, f"The model `{model}` does not exist or you do not have access to it.", code="model_not_found")


def not_found(what: str, object_id: str, param: str | None = None) -> ApiError:
    """`No such File object: file-abc` and its like."""
    return ApiError(404, f"No {what} found with id '{object_id}'.", param=param)


def missing(param: str) -> ApiError:
    if param == "model":
        return ApiError(400, "you must provide a model parameter")
    return ApiError(400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def wrong_type(param: str, wanted: str, got: object) -> ApiError:
    return ApiError(
        400,
        f"Invalid type for '{param}': expected {wanted}, but got {_kind(got)} instead.",
        param=param,
        code="invalid_type",
    )


def wrong_value(param: str, value: object, supported: tuple[str, ...] = ()) -> ApiError:
    known = " and ".join([", ".join(f"'{s}'" for s in supported[:-1]), f"'{supported[-1]}'"]) if supported else ""
    tail = f" Supported values are: {known}." if known else ""
    return ApiError(400, f"Invalid value: '{value}'.{tail}", param=param, code="invalid_value")


def too_small(param: str, value: float, least: float) -> ApiError:
    return ApiError(
        400,
        f"Invalid '{param}': integer below minimum value. Expected a value >= {least}, but got {value} instead.",
        param=param,
        code="integer_below_min_value",
    )


def too_large(param: str, value: float, most: float) -> ApiError:
    return ApiError(
        400,
        f"Invalid '{param}': integer above maximum value. Expected a value <= {most}, but got {value} instead.",
        param=param,
        code="integer_above_max_value",
    )


def bad_json(reason: str) -> ApiError:
    return ApiError(
        400,
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
        "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. "
        f"{reason})",
    )


def unknown_fault(spec: str) -> ApiError:
    return ApiError(400, f"Unknown fault '{spec}'.", param="x-simulator-fault", code="unknown_simulator_fault")


def of_status(status: int, model: str, organization: str, retry_after_s: int | None) -> ApiError:
    """OpenAI's usual error for a status, for `status=<code>` faults."""
    wait_s = 1 if retry_after_s is None and status in {429, 503} else retry_after_s
    headers = (("retry-after", str(wait_s)),) if wait_s else ()
    if status == 429:
        return ApiError(
            429,
            f"Rate limit reached for {model} in organization {organization} on requests per min (RPM): Limit 3, "
            f"Used 3, Requested 1. Please try again in {wait_s or 20}s. Visit "
            "https://platform.openai.com/account/rate-limits to learn more.",
            type="requests",
            code="rate_limit_exceeded",
            headers=headers,
        )
    if status == 503:
        message = "Our servers are currently overloaded. Please try again later."
        kind, code = "service_unavailable_error", "server_is_overloaded"
        return ApiError(503, message, type=kind, code=code, headers=headers)
    if status >= 500:
        message = "The server had an error while processing your request. Sorry about that!"
        return ApiError(status, message, type="server_error", headers=headers)
    if status == 401:
        return wrong_key("sk-simulated-fault-0000")
    return ApiError(status, "The simulator was asked to refuse this request.", headers=headers)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int):
        return "an integer"
    if isinstance(value, float):
        return "a decimal"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"
