"""Token files are recognised by content; their tokens are where the format puts them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mutransfer_cli.data.formats import Kind, kind_of, piece_of
from mutransfer_cli.data.mapped import map_pieces
from mutransfer_cli.errors import InputError
from tests.data.written import tokens, write_llmc, write_megatron

IDS = tokens()


def save(path: Path) -> None:
    np.save(path, IDS)


def megatron(path: Path) -> None:
    write_megatron(path, IDS, [700, 1300])


def alone(path: Path) -> None:
    path.write_bytes(IDS.tobytes())


@pytest.mark.parametrize(
    ("name", "write", "kind", "offset"),
    [
        ("t.bin", lambda path: write_llmc(path, IDS), "llm.c", 1024),
        ("t.bin", megatron, "megatron", 0),
        ("t.npy", save, "numpy", 128),
        ("t.npy", alone, "raw", 0),
    ],
)
def test_the_tokens_of_every_format_are_found(
    name: str, write: Callable[[Path], None], kind: Kind, offset: int, tmp_path: Path
) -> None:
    path = tmp_path / name
    write(path)
    assert kind_of(path) == kind
    piece = piece_of(path, kind, "uint16")
    assert (piece.dtype.name, piece.offset, piece.count) == ("uint16", offset, len(IDS))
    assert piece.end == offset + 2 * len(IDS) == path.stat().st_size
    assert np.array_equal(map_pieces([piece], 300).tokens, IDS)


def test_a_suffix_does_not_decide(tmp_path: Path) -> None:
    megatron(tmp_path / "t.bin")
    (tmp_path / "t.bin").rename(tmp_path / "t.dat")
    assert kind_of(tmp_path / "t.dat") == "raw"
    save(tmp_path / "t.npy")
    assert kind_of((tmp_path / "t.npy").rename(tmp_path / "n.bin")) == "numpy"
    (tmp_path / "p").write_bytes(b"PAR1")
    assert kind_of(tmp_path / "p") == "parquet"


@pytest.mark.parametrize(
    ("lengths", "pointers", "place"),
    [
        ([700, 1300], [0, 1402], r"sequence 1 \(length 1300 at byte 38, pointer at byte 50\)"),
        ([700, -1], [0, 1400], r"sequence 1 \(length -1 at byte 38, pointer at byte 50\) at byte"),
        ([2001], [0], r"sequence 0 \(length 2001 .*\) up to byte 4002 of t.bin, which has 4000"),
    ],
)
def test_a_pair_that_does_not_fit_is_named_with_its_place(
    lengths: list[int], pointers: list[int], place: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.bin"
    write_megatron(path, IDS, lengths, pointers)
    with pytest.raises(InputError, match=place):
        piece_of(path, "megatron", None)
