"""Tokens joined in a temporary file, or mapped in their own file, with digest and largest token."""

from __future__ import annotations

import hashlib
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mutransfer_cli.data.mapped import (
    Piece,
    file_of,
    map_pieces,
    outside,
    read,
    smallest_dtype,
    spooled,
)
from mutransfer_cli.errors import InputError, StorageError

IDS = np.arange(10, dtype=np.uint16)


def pieces(folder: Path, *ranges: tuple[int, int]) -> list[Piece]:
    """Pieces of a file that holds IDS after four other bytes."""
    path = folder / "ids.bin"
    path.write_bytes(b"head" + IDS.tobytes())
    return [Piece(path, IDS.dtype, 4 + 2 * start, end - start) for start, end in ranges]


def test_parts_are_joined_in_the_given_type() -> None:
    found = spooled(iter([np.array([3, 1]), np.array([], np.int64), np.array([7])]), np.uint32)
    expected = np.array([3, 1, 7], np.uint32)
    assert np.array_equal(found.tokens, expected)
    assert (found.tokens.dtype.name, found.largest) == ("uint32", 7)
    assert found.sha256 == hashlib.sha256(expected.tobytes()).hexdigest()
    empty = spooled([], np.uint16)
    assert (empty.tokens.size, empty.largest) == (0, -1)


def test_one_piece_stays_in_its_file_and_several_equal_the_whole(tmp_path: Path) -> None:
    whole = map_pieces(pieces(tmp_path, (0, 10)), vocab=10)
    assert file_of(whole.tokens) == tmp_path / "ids.bin"
    joined = map_pieces(pieces(tmp_path, (0, 4), (4, 10)), vocab=10)
    assert file_of(joined.tokens) is None
    assert np.array_equal(whole.tokens, IDS)
    assert np.array_equal(joined.tokens, IDS)
    assert (whole.sha256, whole.largest) == (joined.sha256, joined.largest)
    assert whole.largest == 9


def test_a_token_outside_the_vocabulary_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"token 8 at position 6 \(byte 20\) is not in a vocab"):
        map_pieces(pieces(tmp_path, (2, 10)), vocab=8)
    assert outside(IDS, 8) == 8
    assert outside(np.array([1, -1]), 8) == 1
    assert outside(IDS, 10) is None
    assert outside(IDS[:0], 1) is None


def test_a_file_that_shrinks_meanwhile_is_named(tmp_path: Path) -> None:
    (piece,) = pieces(tmp_path, (0, 10))
    piece.path.write_bytes(b"head" + bytes(7))
    with pytest.raises(InputError, match="ends at byte 11 and had 24 bytes a moment ago"):
        list(read(piece, 10))


def test_a_full_temporary_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(open, "/dev/full", "r+b"))
    with pytest.raises(StorageError, match=r"cannot hold the joined tokens \(No space left on"):
        spooled([IDS], np.uint16)


def test_the_smallest_type_holds_the_vocabulary() -> None:
    assert [smallest_dtype((1 << 16) + over).name for over in (0, 1)] == ["uint16", "uint32"]
