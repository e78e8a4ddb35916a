from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mutransfer_cli.data.corpus import Corpus, DeviceText, check_size, gather
from mutransfer_cli.data.load import load_corpus
from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import DataProtocol, TokenData
from mutransfer_cli.spec.sweep import TrainSpec
from tests.conftest import CPU, TINY
from tests.data.written import Array, tokens, write_llmc, write_megatron

Run = Callable[..., Any]
IDS = tokens()


def load(path: Path, **keys: Any) -> Corpus:
    keys = {"source": "tokens", "path": path.name, "vocab": 300, **keys}
    return load_corpus(TokenData.model_validate(keys), path.parent)


def whole(corpus: Corpus) -> Array:
    return np.concatenate([corpus.train, corpus.eval])


def losses(lines: str) -> list[float]:
    records = map(json.loads, lines.splitlines())
    return [record["eval_loss"] for record in records if record["kind"] == "trial"]


def write_kind(kind: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Write a file of IDS in one format and return the extra keys that its spec needs."""
    name = {"numpy": "t.npy", "olmo": "t.npy", "parquet": "t.parquet"}.get(kind, "t.bin")
    path, keys = folder / name, {}
    if kind in ("nanogpt", "olmo"):
        path.write_bytes(IDS.tobytes())
        keys = {"dtype": "uint16"}
    elif kind == "llm.c":
        write_llmc(path, IDS)
    elif kind == "llm.c uint32":
        write_llmc(path, IDS.astype(np.uint32))
    elif kind == "megatron":
        write_megatron(path, IDS, [700, 0, 1300])
    elif kind == "numpy":
        np.save(path, IDS.astype(np.int64).reshape(40, 50))
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        rows = [*np.split(IDS.astype(np.int32), [3, 3, 1200]), None]
        pq.write_table(pa.table({"input_ids": rows, "n": range(5)}), path, row_group_size=2)
    return path, keys


KINDS = {
    "nanogpt": ("raw", "uint16"),
    "olmo": ("raw", "uint16"),
    "llm.c": ("llm.c", "uint16"),
    "llm.c uint32": ("llm.c", "uint32"),
    "megatron": ("megatron", "uint16"),
    "numpy": ("numpy", "int64"),
    "parquet": ("parquet", "uint16"),
}


@pytest.mark.parametrize("written", KINDS)
def test_every_kind_is_recognised_and_read(written: str, tmp_path: Path) -> None:
    path, keys = write_kind(written, tmp_path)
    corpus = load(path, **keys)
    kind, dtype = KINDS[written]
    assert np.array_equal(whole(corpus), IDS)
    assert (corpus.train.size, corpus.eval.size, corpus.vocab) == (1800, 200, 300)
    said = corpus.protocol
    assert isinstance(said, DataProtocol)
    assert (said.kind, said.dtype, said.tokens) == (kind, dtype, 2000)
    assert said.sha256 == hashlib.sha256(IDS.astype(dtype).tobytes()).hexdigest()
    assert "2,000 tokens" in corpus.note
    assert "the largest 299; vocabulary 300" in corpus.note
    batch = gather(DeviceText.on(CPU, corpus).train, torch.tensor([[5], [9]]), context=3)
    assert batch.tolist() == [[IDS[5:9].tolist()], [IDS[9:13].tolist()]]


@pytest.mark.parametrize("written", KINDS)
def test_a_sweep_trains_on_every_kind(
    written: str, tmp_path: Path, write_spec: Callable[[Any], Path], run: Run
) -> None:
    path, keys = write_kind(written, tmp_path)
    spec = copy.deepcopy(TINY)
    spec["data"] = {"source": "tokens", "path": path.name, "vocab": 300, **keys}
    spec["train"] |= {"steps": 2, "warmup": 0}
    spec["sweep"] = {"widths": [16], "axes": {"lr": ["2^-6"]}}
    found = run("sweep-proxy", write_spec(spec), "-o", tmp_path / "out")
    assert found.exit_code == 0, found.stderr
    assert f"data: {path}: 1 " in found.stderr
    assert '"vocab": 300' in found.stdout
    assert '"status": "ok"' in found.stdout
    again = run("sweep-proxy", write_spec(spec), "-o", tmp_path / "again")
    assert losses(again.stdout) == losses(found.stdout)
    planned = json.loads(run("rules", write_spec(spec), "--width", 16, "--json").stdout)
    assert planned["parameters"][0]["shape"] == [300, 16]


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", "int32", "int64"])
def test_ids_of_all_bits_arrive_at_the_model(dtype: str, tmp_path: Path) -> None:
    """A uint16 above 32767 has the sign bit of an int16 set."""
    ids = np.array([0, 32767, 32768, 65535] * 10, dtype)
    (tmp_path / "t.bin").write_bytes(ids.tobytes())
    corpus = load(tmp_path / "t.bin", dtype=dtype, vocab=65536)
    text = DeviceText.on(CPU, corpus)
    assert text.train.element_size() == ids.itemsize
    assert text.train.data_ptr() == corpus.train.ctypes.data, "no copy on a CPU"
    assert gather(text.train, torch.tensor([0]), 3).tolist() == [[0, 32767, 32768, 65535]]


def test_shards_are_joined_in_order_and_equal_the_whole(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for name, part in zip(("b", "a", "c"), (IDS[500:900], IDS[:500], IDS[900:]), strict=True):
        write_llmc(shards / f"train_{name}.bin", part)
    (shards / "meta.pkl").write_bytes(b"not read, as it is not named like tokens")
    write_llmc(tmp_path / "one.bin", IDS)
    one = load(tmp_path / "one.bin")
    assert load(shards).protocol == one.protocol
    by_pattern = load(shards / "train_[ab].bin")
    assert np.array_equal(whole(by_pattern), IDS[:900])
    assert "2 llm.c files" in by_pattern.note


def test_a_pair_is_named_by_either_file_or_its_prefix(tmp_path: Path) -> None:
    write_megatron(tmp_path / "own_text_document.bin", IDS, [2000])
    names = ("own_text_document", "own_text_document.idx", "own_text_document.*", "")
    for name in names:
        assert np.array_equal(whole(load(tmp_path / name)), IDS), name


def test_a_type_that_is_said_and_right_is_no_error(tmp_path: Path) -> None:
    write_llmc(tmp_path / "t.bin", IDS)
    assert load(tmp_path / "t.bin", dtype="uint16").train.size == 1800


def llmc(**keys: int) -> Callable[[Path], None]:
    return lambda path: write_llmc(path, IDS, **keys)


def cut(write: Callable[[Path], None], size: int, suffix: str = "") -> Callable[[Path], None]:
    def written(path: Path) -> None:
        write(path)
        target = path.with_suffix(suffix or path.suffix)
        target.write_bytes(target.read_bytes()[:size])

    return written


def megatron(**keys: Any) -> Callable[[Path], None]:
    return lambda path: write_megatron(path, IDS, [700, 1300], **keys)


def bad_magic(path: Path) -> None:
    megatron()(path)
    path.with_suffix(".idx").write_bytes(b"TNTIDX\x00\x00" + bytes(40))


def saved(array: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, array, allow_pickle=True)


def raw(data: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(data), None)[1]


BAD: dict[str, tuple[str, Callable[[Path], None], dict[str, Any], str]] = {
    "llm.c cut short": (
        "t.bin",
        cut(llmc(), 4001),
        {},
        "says 2000 tokens of uint16 at byte 8 and holds 1488: it ends at byte 4001, not 5024",
    ),
    "llm.c too long": ("t.bin", llmc(count=1999), {}, "ends at byte 5024, not 5022"),
    "llm.c header": ("t.bin", cut(llmc(), 100), {}, "ends at byte 100 within its header of 1024"),
    "llm.c version": ("t.bin", llmc(version=2), {}, "has version 2 at byte 4, and 1 is known"),
    "odd bytes": (
        "t.bin",
        raw(bytes(4001)),
        {"dtype": "uint16"},
        "has 4001 bytes, not a whole number of uint16: the last whole token ends at byte 4000",
    ),
    "no dtype": (
        "t.bin",
        raw(bytes(4000)),
        {},
        "data.dtype is missing: .*; give uint8, uint16, uint32, uint64, int16, int32 or int64",
    ),
    "other dtype": ("t.bin", llmc(), {"dtype": "uint32"}, "uint32 is given and .* holds uint16"),
    "beyond vocab": (
        "t.bin",
        llmc(),
        {"vocab": 299},
        r"token 299 at position 1999 \(byte 5022\) is not in a vocabulary of 299",
    ),
    "negative": (
        "t.npy",
        saved(np.array([1, 2, -1])),
        {},
        r"token -1 at position 2 \(byte 144\)",
    ),
    "empty": ("t.bin", raw(b""), {}, "is empty"),
    "index cut short": (
        "t.bin",
        cut(megatron(), 60, ".idx"),
        {},
        "says 2 sequences and 3 document ends, up to byte 82, and ends at byte 60; it is cut",
    ),
    "index header": ("t.bin", cut(megatron(), 20, ".idx"), {}, "byte 20 within its header of 34"),
    "index magic": ("t.bin", bad_magic, {}, r"begins with b'TNTIDX.* not with Megatron's b'MMID"),
    "index code": (
        "t.bin",
        megatron(code=9),
        {},
        "the type code 9 at byte 17; whole numbers are 1",
    ),
    "index floats": ("t.bin", megatron(code=6), {}, r"the type code 6 \(float64\) at byte 17"),
    "index beyond": (
        "t.bin",
        cut(megatron(), 3000),
        {},
        r"sequence 1 \(length 1300 at byte 38, pointer at byte 50\) up to byte 4000 of t.bin, "
        "which has 3000",
    ),
    "index order": (
        "t.bin",
        megatron(pointers=[0, 1300]),
        {},
        "at byte 1300 of t.bin, not after the one before it",
    ),
    "index of less": (
        "t.bin",
        lambda path: write_megatron(path, IDS, [700, 1000]),
        {},
        "ends its sequences at byte 3400 of t.bin, which has 4000",
    ),
    "objects": ("t.npy", saved(np.array([{}, 1])), {}, "holds Python objects, not tokens"),
    "floats": ("t.npy", saved(np.zeros(9)), {}, "holds float64, not tokens"),
    "big-endian": ("t.npy", saved(IDS.astype(">u2")), {}, "is stored big-endian"),
    "by column": ("t.npy", saved(IDS.reshape(2, -1).T), {}, "is stored column by column"),
    "numpy cut short": (
        "t.npy",
        cut(saved(IDS), 1000),
        {},
        "says 2000 tokens of uint16 from byte 128 on, up to byte 4128, and ends at byte 1000",
    ),
    "numpy header": ("t.npy", cut(saved(IDS), 50), {}, "has a header that cannot be read"),
    "numpy nonsense": (
        "t.npy",
        raw(b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((("),
        {},
        "has a header that cannot be read",
    ),
    "column of a bin": ("t.bin", llmc(), {"column": "ids"}, "only Parquet has columns"),
    "parquet that is not": ("t.parquet", raw(b"PAR1" + bytes(99)), {}, "is damaged after row 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_with_a_file_is_said(
    case: str, tmp_path: Path, write_spec: Callable[[Any], Path], run: Run
) -> None:
    name, write, keys, sentence = BAD[case]
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    write(tmp_path / name)
    with pytest.raises(InputError, match=sentence):
        load(tmp_path / name, **keys)
    spec = TINY | {"data": {"source": "tokens", "path": name, "vocab": 300, **keys}}
    found = run("sweep-proxy", write_spec(spec), "-o", tmp_path / "out")
    assert found.exit_code == 2
    announced, error = found.stderr.splitlines()
    assert announced == "spec: 21 trials at 3 widths in all"
    assert str(tmp_path) in error


def test_files_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    write_llmc(tmp_path / "a.bin", IDS)
    np.save(tmp_path / "b.npy", IDS)
    with pytest.raises(InputError, match=r"a.bin is llm.c and .*b.npy is numpy; give files of one"):
        load(tmp_path)
    write_llmc(tmp_path / "c.bin", IDS.astype(np.uint32))
    with pytest.raises(InputError, match=r"a.bin holds uint16 and .*c.bin uint32"):
        load(tmp_path / "*.bin")


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"none holds no file named \*.bin, \*.npy, \*.parquet"):
        load(tmp_path / "none")
    with pytest.raises(InputError, match=r"no file is named .*x_\*.bin; give a file of tokens"):
        load(tmp_path / "x_*.bin")
    with pytest.raises(InputError, match=r"x\.bin does not exist"):
        load(tmp_path / "x.bin")
    write_megatron(tmp_path / "alone.bin", IDS, [2000])
    (tmp_path / "alone.bin").unlink()
    with pytest.raises(InputError, match=r"alone.idx \(Megatron\) has no alone.bin beside it"):
        load(tmp_path / "alone.idx")


def test_a_vocabulary_is_asked_for(write_spec: Callable[[Any], Path], run: Run) -> None:
    spec = TINY | {"data": {"source": "tokens", "path": "t.bin"}}
    found = run("sweep-proxy", write_spec(spec))
    assert found.exit_code == 2
    assert "data.vocab is missing: no token file states it; give that of the" in found.stderr


def test_too_few_tokens_are_counted_as_tokens(tmp_path: Path) -> None:
    write_llmc(tmp_path / "t.bin", IDS[:40])
    with pytest.raises(InputError, match="the train part has 36 tokens and needs at least 65"):
        check_size(load(tmp_path / "t.bin"), TrainSpec(steps=1, batch=4, context=16))


def test_columns_and_lists_of_parquet_are_checked(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    table = {
        "ids": [[1, 2], [], [3, 400, 5]],
        "text": ["a", "b", "c"],
        "holes": [[1], [2, None], []],
    }
    pq.write_table(pa.table(table), path)
    for keys, sentence in (
        ({}, "has no column input_ids; it has ids, text, holes"),
        ({"column": "text"}, "text of .* holds string; give a column of lists of token ids"),
        ({"column": "ids"}, r"token 400 at position 1 of row 2 \(from 0\) of ids is not in a voc"),
        ({"column": "holes"}, r"token none at position 1 of row 1 \(from 0\) of holes"),
        ({"column": "ids", "dtype": "int32"}, "Parquet states the type itself"),
    ):
        with pytest.raises(InputError, match=sentence):
            load(path, **keys)
    assert whole(load(path, column="ids", vocab=401)).tolist() == [1, 2, 3, 400, 5]
    pq.write_table(pa.table({"ids": [[1]] * 300 + [[1, 300]]}), path)
    with pytest.raises(InputError, match=r"token 300 at position 1 of row 300 \(from 0\)"):
        load(path, column="ids")


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + bytes(100))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow; run `pip install pyarrow`"):
        load(tmp_path / "t.parquet")


@pytest.mark.parametrize("shards", [1, 2])
def test_large_files_are_not_held_in_memory(shards: int, tmp_path: Path) -> None:
    """A process that reads 50 MB of tokens, alone or joined, allocates a few MB for them."""
    for shard in range(shards):
        ids = np.arange((50 // shards) << 19, dtype=np.uint32).astype(np.uint16)
        (tmp_path / f"{shard}.bin").write_bytes(ids.tobytes())
    program = f"""
import tracemalloc, torch
from pathlib import Path
from mutransfer_cli.data.corpus import DeviceText, gather, train_offsets
from mutransfer_cli.data.load import load_corpus
from mutransfer_cli.spec.data import TokenData
from mutransfer_cli.spec.sweep import TrainSpec
spec = TokenData(source="tokens", path={str(tmp_path)!r}, vocab=65536, dtype="uint16")
tracemalloc.start()
corpus = load_corpus(spec, Path())
text = DeviceText.on(torch.device("cpu"), corpus)
gather(text.train, train_offsets(corpus, TrainSpec(steps=50, batch=8, context=64), seed=0), 64)
print(corpus.protocol.bytes, tracemalloc.get_traced_memory()[1])
"""
    out = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert int(out[0]) == 50 << 20
    assert int(out[1]) < 10 << 20
