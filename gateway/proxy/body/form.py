"""Finding the model in a multipart body while the body streams by.

The official SDKs write the small fields before the file, so the model is usually in the first bytes. What else is kept
is little, and `facts.py` knows it. The search goes on after the model is found, for a form that names two models has no
model that both the gateway and the upstream would agree on. For the same reason it takes no part whose name could be
read in two ways.
"""

import re
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState

from gateway.errors import DUPLICATE_MEMBER, INVALID_FORM, GatewayError
from gateway.proxy.body.facts import FactKeeper, Sink
from gateway.values import FormFacts

_LONGEST_MODEL = 1024
_LONGEST_BOUNDARY = 70  # RFC 2046 5.1.1
_MOST_PARTS = 1000
_PARAMETER = rb'[ \t]*;[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^";\\ \t]+)'
_DISPOSITION = re.compile(rb"form-data(?:" + _PARAMETER + rb")*[ \t]*;?[ \t]*", re.IGNORECASE)
_PARAMETERS = re.compile(_PARAMETER)
_CONTENT_TYPE = re.compile(rb"multipart/form-data((?:" + _PARAMETER + rb")*)[ \t]*;?[ \t]*", re.IGNORECASE)
_BOUNDARY = re.compile(rb"\"[^\"\\]+\"|[0-9A-Za-z'()+_./:=?-]+")
_PLAIN = frozenset({b"7bit", b"8bit", b"binary"})


class ModelSearch:
    """Reads a multipart body's bytes for its field `model`.

    model: its value once found. span: where that value stands, as offsets into all bytes fed so far. file: whether the
    size and the ends of the first file are wanted in `facts`.
    """

    def __init__(self, content_type: str, *, file: bool = False) -> None:
        self.model: str | None = None
        self.span = (0, 0)
        self._fed = 0
        self._parts = 0
        self._field = bytearray()
        self._header = bytearray()
        self._disposition: bytes | None = None
        self._transfer_encoding = b""
        self._value = bytearray()
        self._start = 0
        self._in_model = False
        self._keeper = FactKeeper(file=file)
        self._sink: Sink | None = None
        callbacks: Any = {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
        }
        self._parser = MultipartParser(boundary_of(content_type), callbacks)

    @property
    def found(self) -> bool:
        return self.model is not None

    def feed(self, data: bytes) -> None:
        """More of the body. Raises GatewayError INVALID_FORM or DUPLICATE_MEMBER (400)."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise _malformed() from None
        self._fed += len(data)

    def ended(self) -> None:
        """The body has ended without a model. Raises GatewayError INVALID_FORM if it had not come to its last boundary:
        a more generous reader might still have found one."""
        if self._parser.state is not MultipartState.END:
            raise _malformed()

    def facts(self) -> FormFacts:
        """What the form told besides the model, as far as it has been fed."""
        return self._keeper.facts()

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise GatewayError(INVALID_FORM, reason=f"it has more than {_MOST_PARTS} parts")
        self._disposition = None
        self._transfer_encoding = b""
        self._in_model = False
        self._sink = None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_end(self) -> None:
        name = bytes(self._field).lower()
        if name == b"content-disposition":
            if self._disposition is not None:
                raise _malformed()
            self._disposition = bytes(self._header)
        elif name == b"content-transfer-encoding":
            self._transfer_encoding = bytes(self._header).strip().lower()
        self._field.clear()
        self._header.clear()

    def _headers_finished(self) -> None:
        self._value.clear()
        disposition = self._disposition or b""
        name = field_name(disposition)
        plain = not self._transfer_encoding or self._transfer_encoding in _PLAIN
        self._in_model = name == b"model"
        if not self._in_model:
            self._sink = self._keeper.begin(name, disposition, plain=plain)
            return
        if self.model is not None:
            raise GatewayError(DUPLICATE_MEMBER, param="model")
        if not plain:
            raise _malformed()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._sink is not None:
            self._sink(data, start, end)
        if not self._in_model:
            return
        if not self._value:
            self._start = self._fed + start
        self._value += data[start:end]
        if len(self._value) > _LONGEST_MODEL:
            raise GatewayError(INVALID_FORM, reason="its field 'model' is too long")

    def _part_end(self) -> None:
        self._keeper.end()
        self._sink = None
        if self._in_model:
            self._in_model = False
            try:
                self.model = self._value.decode()
            except UnicodeDecodeError:
                raise GatewayError(INVALID_FORM, reason="its field 'model' is not UTF-8 text") from None
            if not self.model:
                raise GatewayError(INVALID_FORM, reason="its field 'model' is empty")
            self.span = (self._start, self._start + len(self._value))


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type names, one way to read it provided. Raises GatewayError INVALID_FORM."""
    value = content_type.strip(" \t").encode("utf-8", "surrogateescape")
    found = _CONTENT_TYPE.fullmatch(value)
    if found is None and not value.lower().startswith(b"multipart/form-data"):
        raise GatewayError(INVALID_FORM, reason="its Content-Type is not multipart/form-data")
    pairs = _PARAMETERS.findall(found[1]) if found is not None else []
    named = [(name.lower(), text) for name, text in pairs if name.lower().startswith(b"boundary")]
    if len(named) == 1 and named[0][0] == b"boundary" and _BOUNDARY.fullmatch(named[0][1]):
        boundary: bytes = named[0][1].strip(b'"')
        if len(boundary) <= _LONGEST_BOUNDARY:
            return boundary
    raise GatewayError(INVALID_FORM, reason="its Content-Type does not plainly name one boundary of 1 to 70 characters")


def field_name(disposition: bytes) -> bytes:
    """The name of a part by its Content-Disposition. Raises GatewayError INVALID_FORM where readers might differ."""
    if not _DISPOSITION.fullmatch(disposition):
        raise _malformed()
    names = [(key, value) for key, value in _PARAMETERS.findall(disposition) if key.lower().startswith(b"name")]
    if len(names) != 1 or names[0][0].lower() != b"name" or b"\\" in names[0][1]:
        raise _malformed()
    value: bytes = names[0][1]
    return value[1:-1] if value.startswith(b'"') else value


def _malformed() -> GatewayError:
    return GatewayError(INVALID_FORM, reason="its parts or boundaries are malformed")
