from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import DataProtocol
from mutransfer_cli.spec.protocol import DeclaredProtocol, Protocol, difference
from mutransfer_cli.spec.records import SweepHeader, TrialRecord, parse_records, trial_hash
from mutransfer_cli.spec.sources import load_spec
from mutransfer_cli.spec.yaml_io import json_line
from mutransfer_cli.strict import own_line
from mutransfer_cli.sweep.prepare import Sweep
from tests.conftest import CPU
from tests.made_up import record

Prepare = Callable[[dict[str, Any]], Sweep]


@pytest.fixture
def header(tiny: dict[str, Any], prepare: Prepare) -> SweepHeader:
    return prepare(tiny).header(CPU)


def line_of(header: SweepHeader) -> bytes:
    return json_line(header.model_dump(mode="json", by_alias=True))


def test_a_stream_is_read_back_as_written(header: SweepHeader) -> None:
    diverged = record("b", status="diverged", diverged_at=3)
    found = parse_records([line_of(header), record("a").line(), diverged.line()], "x")
    assert found is not None
    assert found.header == header
    assert found.trials == (record("a"), diverged)
    assert found.torn == b""


def by_hand(trial: str, **changes: str) -> bytes:
    """A line with some values given as JSON text, which may be invalid."""
    values = {key: json.dumps(value) for key, value in json.loads(record(trial).line()).items()}
    inner = ", ".join(f'"{key}": {value}' for key, value in (values | changes).items())
    return f"{{{inner}}}\n".encode()


def test_a_line_as_written_needs_no_second_look() -> None:
    for written in (record("a", lr=1e-5), record("b", status="failed", error="\u2026")):
        assert own_line(TrialRecord, written.line()) == written


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [("lr", '"2^-9"', 2**-9), ("steps", '"1e5"', 100_000), ("width", "32.0", 32)],
)
def test_a_line_may_be_written_by_hand(
    header: SweepHeader, key: str, value: str, read: float
) -> None:
    line = by_hand("a", **{key: value})
    assert own_line(TrialRecord, line) is None
    found = parse_records([line_of(header), line], "x")
    assert found is not None
    assert found.trials == (record("a", **{key: read}),)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("lr", "0", "lr: expected a number above 0, found 0"),
        ("lr", '"-2^3"', "lr: expected a number above 0, found '-2^3'"),
        ("lr", "true", "lr: expected a number, found true"),
        ("lr", '"fast"', "lr: expected a number such as 0.001, 3e-4 or 2^-9, found 'fast'"),
        ("lr", "1e400", "lr: expected a finite number, found inf"),
        ("steps", "1.5", "steps: expected a whole number, found 1.5"),
        ("width", "0", "width: expected at least 1, found 0"),
        ("lr_mult.embeding", "1", "unknown key 'lr_mult.embeding'; did you mean"),
        ("status", '"diverged"', "status diverged with eval_loss 3.1"),
    ],
)
def test_a_wrong_value_is_named(header: SweepHeader, key: str, value: str, sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_records([line_of(header), by_hand("a", **{key: value})], "x")
    assert f"x line 2: {sentence}" in str(raised.value)


def test_only_a_last_line_without_newline_is_skipped(header: SweepHeader) -> None:
    whole, cut = record("a").line(), record("b").line()[:40]
    found = parse_records([line_of(header), whole, cut], "x")
    assert found is not None
    assert (len(found.trials), found.torn) == (1, cut)
    with pytest.raises(InputError, match="x line 2: not a JSON record"):
        parse_records([line_of(header), cut + b"\n", whole], "x")


def test_nothing_complete_is_no_records(header: SweepHeader) -> None:
    assert parse_records([], "x") is None
    assert parse_records([line_of(header)[:50]], "x") is None


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"not json\n", r"x line 2: not a JSON record"),
        (b"[1, 2]\n", r"x line 2: expected a JSON object, found \[1, 2\]"),
        (b'{"kind": "trial", "eval_loss": NaN}\n', r"x line 2: .*NaN is not JSON"),
        (b'{"kind": "trial", "trial": "a"}\n', r"x line 2: (.|\n)*width"),
        (b"\xff\xfe\n", r"x line 2: not a JSON record"),
    ],
)
def test_a_malformed_line_is_named(header: SweepHeader, line: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        parse_records([line_of(header), line], "x")


def test_a_trial_before_the_header_is_refused() -> None:
    with pytest.raises(InputError, match="x line 1: a trial before the sweep header"):
        parse_records([record("a").line()], "x")


def test_two_protocols_are_refused_with_the_difference(
    tiny: dict[str, Any], prepare: Prepare, header: SweepHeader
) -> None:
    tiny["train"]["steps"] = 20
    other = prepare(tiny).header(CPU)
    with pytest.raises(InputError, match=r"x line 2: .*train.steps: 10 there, 20 here"):
        parse_records([line_of(header), line_of(other)], "x")


def test_a_failed_trial_that_was_run_again_counts_once(header: SweepHeader) -> None:
    failed = record("a", status="failed", error="no memory")
    found = parse_records([line_of(header), failed.line(), record("a").line()], "x")
    assert found is not None
    assert found.trials == (record("a"),)


@pytest.mark.parametrize(
    "changes", [{"eval_loss": None}, {"status": "diverged", "train_loss": 3.0, "eval_loss": 3.0}]
)
def test_a_status_that_its_losses_contradict_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="with eval_loss"):
        record("a", **changes)


def test_a_header_changed_by_hand_is_refused(header: SweepHeader) -> None:
    edited = line_of(header).replace(b'"clip": 1.0', b'"clip": 2.0')
    with pytest.raises(InputError, match=r"x line 1: .*the header was changed by hand"):
        parse_records([edited], "x")


def test_records_are_plain_json() -> None:
    assert json.loads(record("a").line())["lr"] == 0.01


def test_a_trial_is_what_determines_its_result(
    tiny: dict[str, Any], prepare: Prepare, header: SweepHeader
) -> None:
    tiny["sweep"]["widths"] = [16]
    assert prepare(tiny).protocol.hash == header.protocol_hash
    tiny["train"]["clip"] = None
    changed = prepare(tiny).protocol
    assert changed.hash != header.protocol_hash
    assert difference(header.protocol, changed) == "train.clip: 1.0 there, None here"
    hashes = {
        trial_hash("p", 16, 0, {"lr": 0.1}),
        trial_hash("q", 16, 0, {"lr": 0.1}),
        trial_hash("p", 32, 0, {"lr": 0.1}),
        trial_hash("p", 16, 1, {"lr": 0.1}),
        trial_hash("p", 16, 0, {"lr": 0.2}),
    }
    assert len(hashes) == 5


def test_the_same_text_elsewhere_is_the_same_protocol(
    tiny: dict[str, Any], prepare: Prepare, header: SweepHeader, tmp_path: Any
) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "other.txt").write_bytes((tmp_path / "text.txt").read_bytes())
    tiny["data"]["path"] = "copy"
    assert prepare(tiny).protocol.hash == header.protocol_hash
    assert isinstance(header.protocol, Protocol)


def test_the_protocol_of_the_built_in_model_keeps_its_hash() -> None:
    """Earlier sweeps must still be resumable."""
    data = DataProtocol(source="stdlib", sha256="0" * 64, bytes=1000, eval_fraction=0.1)
    hashes = [
        Protocol.of(load_spec(name)[0], data, 256).hash
        for name in ("quickstart", "quickstart-standard")
    ]
    assert hashes == ["a46e2eeb8c21050f", "7a79e87596398beb"]


def test_so_does_a_declared_one() -> None:
    declared = DeclaredProtocol.model_validate(
        {
            "schema": "mutransfer.protocol/1",
            "parameterization": {"name": "mup", "base_width": 64},
            "optimizer": {"name": "adamw"},
            "train": {"batch": 1, "steps": 10, "schedule": "cosine"},
        }
    )
    assert declared.hash == "a033c38b0ac31478"


def test_a_base_plan_of_earlier_sweeps_is_read(header: SweepHeader) -> None:
    raw = header.model_dump(mode="json", by_alias=True)
    for parameter in raw["base_plan"]:
        for key in ("init_mean", "fan_in_axis", "own_multiplier"):
            del parameter[key]
    found = parse_records([json_line(raw)], "x")
    assert found is not None
    assert [p.parameter().init_mean for p in found.header.base_plan] == [0.0] * 6
