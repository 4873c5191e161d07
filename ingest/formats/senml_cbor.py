"""CBOR (RFC 8949) as far as a SenML pack needs it: bytes to a list of dicts with SenML's text labels.

Not a general decoder, and on purpose: each byte is looked at once, nesting is bounded, nothing is made of tags but
numbers, and map keys are labels, so no payload makes it slow or large. What the fields mean is left to ``senml``.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from ingest.readings import RefusedError
from ingest.refusals import Reason

LABELS = {
    -1: "bver",
    -2: "bn",
    -3: "bt",
    -4: "bu",
    -5: "bv",
    -6: "bs",
    0: "n",
    1: "u",
    2: "v",
    3: "vs",
    4: "vb",
    5: "s",
    6: "t",
    7: "ut",
    8: "vd",
}
"""RFC 8428, table 4."""
MAX_DEPTH = 8
MAX_MANTISSA_BYTES = 64
"""Of bignums: longer ones are no measurement."""
_LABEL_OF_HEAD = {(label if label >= 0 else 0x1F - label): name for label, name in LABELS.items()}
"""First byte of a small integer → label."""
_FLOAT16, _FLOAT32, _FLOAT64 = struct.Struct(">e"), struct.Struct(">f"), struct.Struct(">d")
_SELF_DESCRIBED = b"\xd9\xd9\xf7"


class Opaque:
    """Something that no field of SenML can hold: an array, a map, a tag, a simple value."""

    def __init__(self, what: str) -> None:
        self.what = what


class CborError(RefusedError):
    """The bytes are not CBOR, or not of the kind that SenML allows."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.MALFORMED_CBOR, f"payload is no SenML in CBOR: {detail}")


def decode(payload: bytes) -> tuple[Any, bool]:
    """The pack, and whether all its numbers are finite.

    Returns
    -------
    list of dict, or whatever else stands there
        Keys are text labels; what a field can't hold is an ``Opaque``. Bignums and decimal fractions are floats.

    Raises
    ------
    CborError

    Examples
    --------
    >>> decode(bytes.fromhex("81 a3 00 61 61 02 fb 3ff8000000000000 06 24"))
    ([{'n': 'a', 'v': 1.5, 't': -5}], True)
    """
    reader = _Reader(payload)
    start = 3 if payload.startswith(_SELF_DESCRIBED) else 0
    try:
        pack, end = reader.pack(start)
    except (IndexError, struct.error):
        raise CborError("it ends too early") from None
    except UnicodeDecodeError as error:
        raise RefusedError(Reason.INVALID_UTF8, f"a text in the payload is not UTF-8: {error}") from None
    if end != len(payload):
        raise CborError(f"{len(payload) - end} bytes follow its end")
    return pack, reader.finite


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.finite = True

    def pack(self, at: int) -> tuple[Any, int]:
        head = self.data[at]
        if head >> 5 != 4:
            return self.item(at, 0)
        count, at = (None, at + 1) if head == 0x9F else self.argument(head, at)
        records: list[Any] = []
        if count is not None and count > len(self.data):
            raise CborError("it ends too early")
        record = self.record
        data = self.data
        while count is None or len(records) < count:
            head = data[at]
            if head >> 5 == 5:
                found, at = record(head, at)
            elif head == 0xFF and count is None:
                return records, at + 1
            else:
                found, at = self.item(at, 1)
            records.append(found)
        return records, at

    def record(self, head: int, at: int) -> tuple[dict[str, Any], int]:
        """A map, whose first byte is ``head``, with labels for keys."""
        data, size, label_of, unpack = self.data, len(self.data), _LABEL_OF_HEAD, _FLOAT64.unpack_from
        count: int | None
        if head < 0xB8:
            count, at = head & 31, at + 1
        elif head == 0xBF:
            count, at = None, at + 1
        else:
            count, at = self.argument(head, at)
        fields: dict[str, Any] = {}
        done = 0
        while done != count:
            head = data[at]
            if head in label_of:
                label = label_of[head]
                at += 1
            elif head == 0xFF and count is None:
                at += 1
                break
            else:
                label, at = self.label(head, at)
            head = data[at]
            if head == 0xFB:
                (value,) = unpack(data, at + 1)
                at += 9
                if value - value != 0:
                    self.finite = False
                fields[label] = value
            elif 0x60 <= head < 0x78:
                end = at + head - 0x5F
                if end > size:
                    raise CborError("it ends too early")
                fields[label] = data[at + 1 : end].decode()
                at = end
            elif head < 0x18:
                fields[label] = head
                at += 1
            elif 0x20 <= head < 0x38:
                fields[label] = 0x1F - head
                at += 1
            elif head == 0x38 and at + 1 < size:
                fields[label] = -1 - data[at + 1]
                at += 2
            else:
                fields[label], at = self.item(at, 2)
            done += 1
        if len(fields) != done:
            raise CborError("a record has a label twice")
        return fields, at

    def label(self, head: int, at: int) -> tuple[str, int]:
        """A key that is not a known small integer; other integers get a name that means nothing and is ignored."""
        if head >> 5 in (0, 1):
            number, at = self.argument(head, at)
            return f"integer label {number if head < 0x20 else -1 - number}", at
        if head >> 5 == 3:
            label, at = self.item(at, 2)
            return label, at
        raise CborError("a label must be an integer or a text")

    def argument(self, head: int, at: int) -> tuple[int, int]:
        """The number in a head, and where what follows begins."""
        low = head & 31
        if low < 24:
            return low, at + 1
        if low > 27:
            raise CborError(f"byte {head:#04x} begins nothing that is allowed here")
        size = 1 << (low - 24)
        number = self.data[at + 1 : at + 1 + size]
        if len(number) < size:
            raise CborError("it ends too early")
        return int.from_bytes(number, "big"), at + 1 + size

    def text(self, at: int, end: int) -> str:
        if end > len(self.data):
            raise CborError("it ends too early")
        return self.data[at:end].decode()

    def item(self, at: int, depth: int) -> tuple[Any, int]:
        """Any value; what SenML has no use for is walked over and becomes ``Opaque``."""
        head = self.data[at]
        major = head >> 5
        if major == 7:
            return self.simple(head, at)
        if major == 4 or major == 5:
            return self.container(head, at, depth)
        number, at = self.argument(head, at)
        if major == 0:
            return number, at
        if major == 1:
            return -1 - number, at
        if major == 3:
            return self.text(at, at + number), at + number
        if major == 2:
            piece = self.data[at : at + number]
            if len(piece) != number:
                raise CborError("it ends too early")
            return piece, at + number
        return self.tag(number, at, depth)

    def simple(self, head: int, at: int) -> tuple[Any, int]:
        low = head & 31
        if low == 20 or low == 21:
            return low == 21, at + 1
        if low == 22 or low == 23:
            return None, at + 1
        if 25 <= low <= 27:
            of = (_FLOAT16, _FLOAT32, _FLOAT64)[low - 25]
            value = of.unpack_from(self.data, at + 1)[0]
            self.finite = self.finite and math.isfinite(value)
            return value, at + 1 + of.size
        number, at = self.argument(head, at)
        return Opaque(f"the simple value {number}"), at

    def container(self, head: int, at: int, depth: int) -> tuple[Any, int]:
        if depth >= MAX_DEPTH:
            raise CborError(f"it is nested more than {MAX_DEPTH} levels deep")
        count, at = (None, at + 1) if head & 31 == 31 else self.argument(head, at)
        width = 1 if head >> 5 == 4 else 2
        if count is not None and count * width > len(self.data):
            raise CborError("it ends too early")
        done = 0
        while count is None or done < count * width:
            if count is None and self.data[at] == 0xFF:
                if done % width:
                    raise CborError("a map ends after a key")
                at += 1
                break
            _, at = self.item(at, depth + 1)
            done += 1
        return Opaque("an array" if width == 1 else "a map"), at

    def tag(self, tag: int, at: int, depth: int) -> tuple[Any, int]:
        """A bignum (2, 3) or a decimal fraction (4) as a float; the content of any other tag is walked over."""
        if depth >= MAX_DEPTH:
            raise CborError(f"it is nested more than {MAX_DEPTH} levels deep")
        if tag in (2, 3):
            number, at = self.bignum(tag, at)
            return self.checked(_float(number, 0)), at
        if tag == 4 and self.data[at] == 0x82:
            exponent, at = self.item(at + 1, depth + 1)
            if self.data[at] in (0xC2, 0xC3):
                mantissa, at = self.bignum(self.data[at] - 0xC0, at + 1)
            else:
                mantissa, at = self.item(at, depth + 1)
            if type(exponent) is not int or type(mantissa) is not int:
                raise CborError("a decimal fraction must be two integers")
            return self.checked(_float(mantissa, exponent)), at
        _, at = self.item(at, depth + 1)
        return Opaque(f"something with the tag {tag}"), at

    def bignum(self, tag: int, at: int) -> tuple[int, int]:
        if self.data[at] >> 5 != 2:
            raise CborError("a bignum must be bytes")
        piece, at = self.item(at, MAX_DEPTH)
        if len(piece) > MAX_MANTISSA_BYTES:
            raise CborError(f"a bignum has {len(piece)} bytes, at most {MAX_MANTISSA_BYTES} are taken")
        number = int.from_bytes(piece, "big")
        return number if tag == 2 else -1 - number, at

    def checked(self, value: float) -> float:
        self.finite = self.finite and math.isfinite(value)
        return value


def _float(mantissa: int, exponent: int) -> float:
    """mantissa · 10^exponent, rounded once, as the same digits in JSON would be."""
    return float(f"{mantissa}e{exponent}")
