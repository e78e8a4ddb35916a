"""Protocol buffers, byte by byte."""

from __future__ import annotations

import pytest

from mutransfer_cli.spec.readers.wire import fields, parts, real, signed, text


def test_every_kind_of_field_is_read() -> None:
    # the first example of the encoding guide: field 1 is the varint 150
    assert list(fields(b"\x08\x96\x01")) == [(1, 150)]
    assert list(fields(b"\x12\x07testing")) == [(2, b"testing")]
    assert text(b"\x12\x07testing\x12\x02no", 2) == "no"
    assert list(parts(b"\x08\x01\x12\x01a\x12\x01b", 2)) == [b"a", b"b"]
    [(number, value)] = fields(b"\x15\x00\x00\x80\x3f")
    assert (number, real(value)) == (2, 1.0)
    [(number, value)] = fields(b"\x09" + b"\x00" * 6 + b"\xf0\x3f")
    assert (number, real(value)) == (1, 1.0)
    assert signed((1 << 64) - 1) == -1


@pytest.mark.parametrize("message", [b"\x08", b"\x12\x07test", b"\x0b", b"\xff" * 12])
def test_broken_messages_are_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|wire type"):
        list(fields(message))


def test_values_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="whole number"):
        signed(b"12345678")
    with pytest.raises(ValueError, match="real number"):
        real(3)
