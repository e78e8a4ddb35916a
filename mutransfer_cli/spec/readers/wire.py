"""The wire format of protocol buffers, and framed records: as far as event files need them.

Field numbers never change their meaning, so that files of any version can be read without the
library that wrote them. Source: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

Value: TypeAlias = int | bytes


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field: an int for a varint, otherwise the bytes.

    Raises:
        ValueError: the message is cut short, or is none.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        value: Value
        if kind == 0:
            value, at = _varint(message, at)
        else:
            if kind == 2:
                length, at = _varint(message, at)
            elif kind in (1, 5):
                length = 8 if kind == 1 else 4
            else:
                raise ValueError(f"wire type {kind} at byte {at}")
            value, at = message[at : at + length], at + length
            if at > len(message):
                raise ValueError("the message is cut short")
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("a number is cut short")


def parts(message: bytes, number: int) -> Iterator[bytes]:
    """Every value of a field that holds bytes, texts or messages."""
    for found, value in fields(message):
        if found == number and isinstance(value, bytes):
            yield value


def text(message: bytes, number: int) -> str:
    """The last text of a field; empty without one."""
    found = list(parts(message, number))
    return found[-1].decode("utf-8", "replace") if found else ""


def signed(value: Value) -> int:
    """A varint as the signed 64-bit number that it stands for."""
    if not isinstance(value, int):
        raise ValueError("expected a whole number")
    return value - (1 << 64) if value >> 63 else value


def real(value: Value) -> float:
    """A fixed64 or fixed32 as a float."""
    if not isinstance(value, bytes) or len(value) not in (4, 8):
        raise ValueError("expected a real number")
    return float(struct.unpack("<d" if len(value) == 8 else "<f", value)[0])
