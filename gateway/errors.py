"""Every error that the gateway itself can cause: whose fault it is, whether to try again, and how it looks on the wire.

The wire form is OpenAI's: `{"error": {"message", "type", "param", "code"}}`, all four keys always there. The official
SDKs choose the exception class by the status alone and retry 408, 409, 429 and 5xx unless `x-should-retry` says
otherwise, so each row is also a decision about retries.
"""

import enum
import re

import msgspec

_KEY = re.compile(r"sk-[A-Za-z0-9_-]{8,}")


class Fault(enum.Enum):
    DOWNSTREAM = "downstream"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


class ErrorKind(msgspec.Struct, frozen=True):
    """One row of the table.

    status: HTTP status. type, code: as in OpenAI's body. message: text with `{words}` to fill in.
    retry: True or False sends `x-should-retry`, None leaves it to the client's own rules. retry_after_s: seconds.
    """

    name: str
    fault: Fault
    status: int
    type: str
    code: str | None
    message: str
    retry: bool | None = None
    retry_after_s: int | None = None


_INVALID = "invalid_request_error"
_SERVER = "server_error"
_UNAVAILABLE = "service_unavailable_error"
_KEYS_PAGE = "https://platform.openai.com/account/api-keys"
_LEARN_MORE = "Visit https://platform.openai.com/account/rate-limits to learn more."
_LIMITED = "rate_limit_exceeded"
_SPENT = "insufficient_quota"

# Who is calling
NO_API_KEY = ErrorKind(
    "no_api_key", Fault.DOWNSTREAM, 401, _INVALID, None,
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the API "
    f"from your browser and are prompted for a username and password. You can obtain an API key from {_KEYS_PAGE}.",
)  # fmt: skip
INCORRECT_API_KEY = ErrorKind(
    "incorrect_api_key", Fault.DOWNSTREAM, 401, _INVALID, "invalid_api_key",
    "Incorrect API key provided: {key}. You can find your API key at " + _KEYS_PAGE + ".",
)  # fmt: skip
INVALID_TOKEN = ErrorKind(
    "invalid_token", Fault.DOWNSTREAM, 401, _INVALID, "invalid_token", "Your access token is not accepted: {reason}."
)
KEYS_UNAVAILABLE = ErrorKind(
    "keys_unavailable", Fault.GATEWAY, 503, _UNAVAILABLE, "key_check_unavailable",
    "API keys cannot be checked right now. Please try again later.", retry_after_s=1,
)  # fmt: skip

# What is called
INVALID_URL = ErrorKind("invalid_url", Fault.DOWNSTREAM, 404, _INVALID, None, "Invalid URL ({method} {path})")
METHOD_NOT_ALLOWED = ErrorKind(
    "method_not_allowed",
    Fault.DOWNSTREAM,
    405,
    _INVALID,
    "method_not_supported",
    "Not allowed to {method} on {path}.",
)
MODEL_NOT_FOUND = ErrorKind(
    "model_not_found", Fault.DOWNSTREAM, 404, _INVALID, "model_not_found",
    "The model `{model}` does not exist or you do not have access to it.",
)  # fmt: skip
MODEL_WITHOUT_PRICE = ErrorKind(
    "model_without_price", Fault.DOWNSTREAM, 403, _INVALID, "model_not_allowed",
    "The model `{model}` has no price at this gateway, whose settings refuse such models. "
    "An operator can give it one with the setting `prices.models`.",
)  # fmt: skip
MODEL_DENIED = ErrorKind(
    "model_denied", Fault.DOWNSTREAM, 403, _INVALID, "model_not_found",
    "Project `{project}` does not have access to model `{model}`",
)  # fmt: skip
TOOL_DENIED = ErrorKind(
    "tool_denied", Fault.DOWNSTREAM, 403, _INVALID, "tool_not_allowed",
    "Project `{project}` does not have access to the hosted tool `{tool}`.",
)  # fmt: skip
TIER_DENIED = ErrorKind(
    "tier_denied", Fault.DOWNSTREAM, 400, _INVALID, None,
    "Invalid service_tier argument: The requested service tier is not allowed for this project.",
)  # fmt: skip
UNMETERED_OPERATION = ErrorKind(
    "unmetered_operation", Fault.DOWNSTREAM, 403, _INVALID, "operation_not_allowed",
    "{method} {path} opens a way around this gateway's metering and is refused. "
    "An operator can allow it with the setting `allow_unmetered`.",
)  # fmt: skip

# The request itself
BAD_REQUEST = ErrorKind(
    "bad_request", Fault.DOWNSTREAM, 400, _INVALID, None, "Your request could not be read as HTTP: {reason}"
)
HEADERS_TOO_LARGE = ErrorKind(
    "headers_too_large", Fault.DOWNSTREAM, 431, _INVALID, None,
    "Your request's headers are too large: at most {limit} bytes are accepted.",
)  # fmt: skip
BODY_TOO_LARGE = ErrorKind(
    "body_too_large", Fault.DOWNSTREAM, 413, _INVALID, "request_too_large",
    "Maximum content size limit ({limit} bytes) exceeded.",
)  # fmt: skip
INVALID_JSON = ErrorKind(
    "invalid_json", Fault.DOWNSTREAM, 400, _INVALID, None,
    "We could not parse the JSON body of your request: {reason}. The API expects a JSON payload, but what was sent was "
    "not valid JSON.",
)  # fmt: skip
INVALID_TYPE = ErrorKind(
    "invalid_type", Fault.DOWNSTREAM, 400, _INVALID, "invalid_type", "Invalid type for '{param}': {reason}."
)
DUPLICATE_MEMBER = ErrorKind(
    "duplicate_member", Fault.DOWNSTREAM, 400, _INVALID, "duplicate_member",
    "The member '{param}' appears more than once in the request; it must appear once.",
)  # fmt: skip
INVALID_FORM = ErrorKind(
    "invalid_form", Fault.DOWNSTREAM, 400, _INVALID, None,
    "We could not parse the multipart form data of your request: {reason}.",
)  # fmt: skip
UNSUPPORTED_ENCODING = ErrorKind(
    "unsupported_encoding", Fault.DOWNSTREAM, 415, _INVALID, "unsupported_content_encoding",
    "Unsupported Content-Encoding '{encoding}': use gzip, deflate, zstd or none.",
)  # fmt: skip
INVALID_ENCODING = ErrorKind(
    "invalid_encoding", Fault.DOWNSTREAM, 400, _INVALID, "invalid_content_encoding",
    "The request body is not valid {encoding} data, which its Content-Encoding header declares.",
)  # fmt: skip
REQUEST_TIMEOUT = ErrorKind(
    "request_timeout", Fault.DOWNSTREAM, 408, _INVALID, "request_timeout",
    "Your request was not received completely in time.",
)  # fmt: skip

# Limits: OpenAI's words
_REACHED = (
    "Rate limit reached for {model} in {where} on {words}: Limit {limit}, Used {used}, Requested {requested}. "
    f"Please try again in {{wait}}. {_LEARN_MORE}"
)
_TOO_LARGE = (
    "Request too large for {model} in {where} on {words}: Limit {limit}, Requested {requested}. "
    f"The input or output tokens must be reduced in order to run successfully. {_LEARN_MORE}"
)
_QUOTA = (
    "You exceeded your current quota, please check your plan and billing details: the {window} spend limit of {where} "
    "is ${limit}, of which ${used} is spent or reserved, and this request may cost ${requested}."
)
REQUESTS_LIMITED = ErrorKind("requests_limited", Fault.DOWNSTREAM, 429, "requests", _LIMITED, _REACHED)
TOKENS_LIMITED = ErrorKind("tokens_limited", Fault.DOWNSTREAM, 429, "tokens", _LIMITED, _REACHED)
REQUEST_TOO_LARGE = ErrorKind("request_too_large", Fault.DOWNSTREAM, 429, "tokens", _LIMITED, _TOO_LARGE, retry=False)
REQUESTS_NEVER = ErrorKind(  # what is not counted in tokens: OpenAI's words, as far as they fit
    "requests_never", Fault.DOWNSTREAM, 429, "requests", _LIMITED,
    "Request too large for {model} in {where} on {words}: Limit {limit}, Requested {requested}. " + _LEARN_MORE,
    retry=False,
)  # fmt: skip
ORGANIZATION_SPEND_LIMITED = ErrorKind(
    "organization_spend_limited",
    Fault.DOWNSTREAM,
    429,
    _SPENT,
    "organization_spend_limit_exceeded",
    _QUOTA,
    retry=False,
)
PROJECT_SPEND_LIMITED = ErrorKind(
    "project_spend_limited", Fault.DOWNSTREAM, 429, _SPENT, "project_spend_limit_exceeded", _QUOTA, retry=False
)
USER_SPEND_LIMITED = ErrorKind(
    "user_spend_limited", Fault.DOWNSTREAM, 429, _SPENT, "user_spend_limit_exceeded", _QUOTA, retry=False
)
KEY_SPEND_LIMITED = ErrorKind(
    "key_spend_limited", Fault.DOWNSTREAM, 429, _SPENT, "key_spend_limit_exceeded", _QUOTA, retry=False
)
UNBOUNDED = ErrorKind(
    "unbounded", Fault.DOWNSTREAM, 400, _INVALID, "unbounded_request",
    "What this request may use has no upper bound, without which this project admits none: {reason}.",
)  # fmt: skip
LIMITS_UNAVAILABLE = ErrorKind(
    "limits_unavailable", Fault.GATEWAY, 503, _UNAVAILABLE, "limit_check_unavailable",
    "Limits cannot be checked right now. Please try again later.", retry_after_s=1,
)  # fmt: skip

# The admin API
MISSING_SCOPES = ErrorKind(
    "missing_scopes", Fault.DOWNSTREAM, 401, _INVALID, "insufficient_permissions",
    "You have insufficient permissions for this operation. Missing scopes: {scope}. Check that you have the correct "
    "role in your organization (Reader, Writer, Owner) and project (Member, Owner), and if you're using a restricted "
    "API key, that it has the necessary scopes.",
)  # fmt: skip
NOT_FOUND = ErrorKind("not_found", Fault.DOWNSTREAM, 404, _INVALID, "not_found", "No such {what}: '{id}'.")
NO_SUCH_REQUEST = ErrorKind(
    "no_such_request", Fault.DOWNSTREAM, 404, _INVALID, "not_found",
    "No such request: '{id}'. Calls are kept for {days} days, and take a second or two to get here. Those that reached "
    "no upstream are here only if a limit refused them, and of many that it refused in a minute only the first ones.",
)  # fmt: skip
NOT_SERVED = ErrorKind(
    "not_served", Fault.DOWNSTREAM, 404, _INVALID, "not_supported",
    "This gateway does not have {what}: {reason}.",
)  # fmt: skip
MISSING_PARAMETER = ErrorKind(
    "missing_parameter", Fault.DOWNSTREAM, 400, _INVALID, "missing_required_parameter",
    "Missing required parameter: '{param}'.",
)  # fmt: skip
UNKNOWN_PARAMETER = ErrorKind(
    "unknown_parameter", Fault.DOWNSTREAM, 400, _INVALID, "unknown_parameter", "Unknown parameter: '{param}'."
)
INVALID_VALUE = ErrorKind(
    "invalid_value", Fault.DOWNSTREAM, 400, _INVALID, "invalid_value", "Invalid value for '{param}': {reason}."
)
ALREADY_THERE = ErrorKind(
    "already_there", Fault.DOWNSTREAM, 400, _INVALID, "already_exists", "There is already {what}."
)
NOT_NOW = ErrorKind(  # what is asked for is well-formed, and what it is asked of is not in a state for it
    "not_now", Fault.DOWNSTREAM, 400, _INVALID, "invalid_state", "{reason}."
)
DECLARED = ErrorKind(
    "declared", Fault.DOWNSTREAM, 400, _INVALID, "declared_in_settings",
    "{what} is declared in the gateway's settings file, and can be changed there only.",
)  # fmt: skip
TOO_MANY_FAILURES = ErrorKind(
    "too_many_failures", Fault.DOWNSTREAM, 429, "requests", _LIMITED,
    "Too many requests with wrong keys. Please try again later.", retry_after_s=10,
)  # fmt: skip

# The gateway
INTERNAL = ErrorKind(
    "internal", Fault.GATEWAY, 500, _SERVER, None,
    "The server had an error while processing your request. Sorry about that!",
)  # fmt: skip
OVERLOADED = ErrorKind(
    "overloaded", Fault.GATEWAY, 503, _UNAVAILABLE, "server_is_overloaded",
    "The gateway is currently overloaded. Please try again later.", retry_after_s=1,
)  # fmt: skip
DRAINING = ErrorKind(
    "draining", Fault.GATEWAY, 503, _UNAVAILABLE, "server_is_shutting_down",
    "The gateway is shutting down before this request could end. Please try again.", retry_after_s=1,
)  # fmt: skip
ADMIN_UNAVAILABLE = ErrorKind(
    "admin_unavailable", Fault.GATEWAY, 503, _UNAVAILABLE, "admin_api_unavailable",
    "The admin API is not reachable right now. Please try again later.", retry_after_s=2,
)  # fmt: skip

# The upstream
UPSTREAM_UNREACHABLE = ErrorKind(
    "upstream_unreachable", Fault.UPSTREAM, 502, _SERVER, "upstream_unreachable",
    "The upstream could not be reached. Please try again later.",
)  # fmt: skip
UPSTREAM_CUT = ErrorKind(
    "upstream_cut", Fault.UPSTREAM, 502, _SERVER, "upstream_cut",
    "The upstream closed the connection before its answer was complete.",
)  # fmt: skip
UPSTREAM_MALFORMED = ErrorKind(
    "upstream_malformed",
    Fault.UPSTREAM,
    502,
    _SERVER,
    "upstream_malformed",
    "The upstream's answer was not valid HTTP.",
)
UPSTREAM_TIMEOUT = ErrorKind(
    "upstream_timeout",
    Fault.UPSTREAM,
    504,
    _SERVER,
    "upstream_timeout",
    "The upstream did not answer in time.",
)


def without_keys(text: str) -> str:
    """A client's text without what looks like a key: people put them everywhere."""
    return _KEY.sub("sk-***", text)


class ErrorBody(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(msgspec.Struct, frozen=True):
    error: ErrorBody


_encoder = msgspec.json.Encoder()


class GatewayError(Exception):
    """An error of the gateway's own, raised where it is noticed and written to the client at the outermost door.

    kind: the row. param: the request's field at fault, if there is one. wait_us: when to try again, in microseconds,
    where it is known only now. words: what fills the row's message; never a secret, for they go to the client and into
    logs. What looks like a key in a client's own words is hidden.
    """

    def __init__(
        self, kind: ErrorKind, *, param: str | None = None, wait_us: int | None = None, **words: object
    ) -> None:
        self.kind = kind
        self.param = param
        self.wait_us = wait_us
        self.message = without_keys(kind.message.format(param=param, **words)) if words or param else kind.message
        super().__init__(self.message)

    def body(self) -> ErrorBody:
        return ErrorBody(self.message, self.kind.type, self.param, self.kind.code)

    def json(self) -> bytes:
        """The response body, in OpenAI's envelope."""
        try:
            return _encoder.encode(ErrorEnvelope(self.body()))
        except UnicodeEncodeError:  # bytes of the client's that are no text
            message = self.message.encode("utf-8", "replace").decode()
            return _encoder.encode(ErrorEnvelope(ErrorBody(message, self.kind.type, self.param, self.kind.code)))

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that belong to this error, besides the content's own."""
        headers = []
        if self.wait_us is not None:
            milliseconds = max(1, -(-self.wait_us // 1000))
            headers.append((b"retry-after", b"%d" % -(-milliseconds // 1000)))
            headers.append((b"retry-after-ms", b"%d" % milliseconds))
        elif self.kind.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % self.kind.retry_after_s))
        if self.kind.retry is not None:
            headers.append((b"x-should-retry", b"true" if self.kind.retry else b"false"))
        if self.kind.status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="OpenAI API"'))
        return headers
