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

from mutransfer_cli.data import text
from mutransfer_cli.data.corpus import Corpus
from mutransfer_cli.data.load import load_corpus
from mutransfer_cli.data.text import cut
from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import DataProtocol, TextData
from tests.conftest import TINY

Run = Callable[..., Any]
WORDS = "".join(f"the {n} of {n * n % 97} and\n" for n in range(800))


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    """Byte-level BPE, saved as tokenizer.json with settings that a model's file may have."""
    library = pytest.importorskip("tokenizers")
    found = library.Tokenizer(library.models.BPE())
    found.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    found.train_from_iterator([WORDS], trainer)
    found.enable_truncation(16)
    found.enable_padding(length=16)
    found.post_processor = library.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    found.save(str(tmp_path / "tokenizer.json"))
    found.no_truncation()
    found.no_padding()
    return found


def load(path: Path, **keys: Any) -> Corpus:
    keys = {"source": "text", "path": path.name, "tokenizer": "tokenizer.json", **keys}
    return load_corpus(TextData.model_validate(keys), path.parent)


def decoded(tokenizer: Any, corpus: Corpus) -> str:
    ids = np.concatenate([corpus.train, corpus.eval]).tolist()
    text: str = tokenizer.decode(ids, skip_special_tokens=False)
    return text


def test_all_of_the_text_is_encoded_and_nothing_else(tokenizer: Any, tmp_path: Path) -> None:
    text = WORDS * 20 + "ünï" * 50_000 + "\nend"
    (tmp_path / "t.txt").write_text(text)
    corpus = load(tmp_path / "t.txt")
    assert decoded(tokenizer, corpus) == text
    said = corpus.protocol
    assert isinstance(said, DataProtocol)
    assert corpus.vocab == tokenizer.get_vocab_size()
    assert (said.kind, said.dtype) == ("text", "uint16")
    assert said.tokens == corpus.train.size + corpus.eval.size
    file = (tmp_path / "tokenizer.json").read_bytes()
    assert said.tokenizer_sha256 == hashlib.sha256(file).hexdigest()
    assert load(tmp_path / "t.txt").protocol == said


def test_a_short_text_is_encoded_as_the_library_does(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(WORDS)
    corpus = load(tmp_path / "t.txt", eval_fraction=0.5)
    found = np.concatenate([corpus.train, corpus.eval])
    assert found.tolist() == tokenizer.encode(WORDS, add_special_tokens=False).ids
    assert abs(corpus.train.size - corpus.eval.size) <= 1


def test_parquet_is_read_row_by_row(tokenizer: Any, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "t").mkdir()
    for name, rows in (("a", ["the 1 of 1 and\n", None, "é" * 100_000]), ("b", ["", " of 9"])):
        pq.write_table(pa.table({"body": rows}), tmp_path / "t" / f"{name}.parquet")
    corpus = load(tmp_path / "t", column="body")
    assert decoded(tokenizer, corpus) == "the 1 of 1 and\n" + "é" * 100_000 + " of 9"
    assert isinstance(corpus.protocol, DataProtocol)
    assert corpus.protocol.kind == "parquet"
    with pytest.raises(InputError, match=r"a.parquet has no column text; it has body"):
        load(tmp_path / "t")
    (tmp_path / "t" / "notes.txt").write_text("no")
    with pytest.raises(InputError, match=r"a.parquet is Parquet and .*notes.txt is not; give file"):
        load(tmp_path / "t", column="body")
    with pytest.raises(InputError, match=r"a.parquet is Parquet, whose bytes are not text; give d"):
        load(tmp_path / "t", tokenizer=None)


def test_pieces_end_with_lines_words_or_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "PIECE", 8)
    assert list(cut([b"ab\ncd ef", b" ghijklm"])) == ["ab\n", "cd ef", " ghijklm"]
    whole = "aé漢😀" * 50
    for size in (5, 8, 100):
        data = whole.encode()
        pieces = list(cut(data[at : at + size] for at in range(0, len(data), size)))
        assert "".join(pieces) == whole
        assert max(len(piece.encode()) for piece in pieces) <= 24


def test_a_sweep_trains_on_it_and_rules_know_its_vocabulary(
    tokenizer: Any, tmp_path: Path, write_spec: Callable[[Any], Path], run: Run
) -> None:
    (tmp_path / "text.txt").write_text(WORDS)
    spec = copy.deepcopy(TINY)
    spec["data"]["tokenizer"] = "tokenizer.json"
    spec["train"] |= {"steps": 2, "warmup": 0}
    spec["sweep"] = {"widths": [16], "axes": {"lr": ["2^-6"]}}
    path = write_spec(spec)
    found = run("sweep-proxy", path, "-o", tmp_path / "out")
    assert found.exit_code == 0, found.stderr
    assert "tokens of tokenizer.json; vocabulary " in found.stderr
    assert f'"vocab": {tokenizer.get_vocab_size()}' in found.stdout
    (tmp_path / "text.txt").unlink()
    planned = run("rules", path, "--width", 64, "--json")
    assert planned.exit_code == 0, planned.stderr
    embedding = json.loads(planned.stdout)["parameters"][0]
    assert embedding["shape"] == [tokenizer.get_vocab_size(), 64]


def test_what_is_wrong_is_said(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"x" * 70_000 + b"\xff")
    with pytest.raises(InputError, match=r"t.txt: is not UTF-8 text \(byte 70000\)"):
        load(path)
    path.write_text("")
    with pytest.raises(InputError, match=r"t.txt is empty"):
        load(path)
    with pytest.raises(InputError, match=r"data.column: .*t.txt is not Parquet"):
        load(path, column="text")
    with pytest.raises(InputError, match=r"none.json: cannot be read"):
        load(path, tokenizer="none.json")
    for content in ("{}", "no", ""):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(
            InputError, match=r"bad.json is not a tokenizer of the tokenizers library"
        ):
            load(path, tokenizer="bad.json")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"needs tokenizers; run `pip install tokenizers`"):
        load(path)


def test_a_column_without_a_tokenizer_is_refused(
    write_spec: Callable[[Any], Path], run: Run
) -> None:
    spec = TINY | {"data": {"source": "text", "path": "t", "column": "text"}}
    found = run("sweep-proxy", write_spec(spec))
    assert found.exit_code == 2
    assert "column: Parquet is read with a tokenizer only; give tokenizer too" in found.stderr


def test_large_texts_are_not_held_in_memory(tokenizer: Any, tmp_path: Path) -> None:
    """Three more MB of text, over a million tokens, take hardly more memory."""
    for name, megabytes in (("less", 1), ("more", 4)):
        (tmp_path / name).write_text(WORDS * ((megabytes << 20) // len(WORDS)))
    program = f"""
from pathlib import Path
from mutransfer_cli.data.load import load_corpus
from mutransfer_cli.spec.data import TextData
for name in ("less", "more"):
    spec = TextData(source="text", path=name, tokenizer="tokenizer.json")
    load_corpus(spec, Path({str(tmp_path)!r}))
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")))
"""
    less, more = map(int, subprocess.check_output([sys.executable, "-c", program]).split())
    assert more - less < 30
