"""Arguments of a user's own model: which become numbers, and which stay text."""

from __future__ import annotations

from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import DataProtocol
from mutransfer_cli.spec.model import FactorySpec
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.spec.yaml_io import load_yaml
from mutransfer_cli.strict import validated


def args_of(written: str) -> dict[str, Any]:
    text = f"{{factory: models:build, args: {{x: {written}}}}}"
    return validated(FactorySpec, load_yaml(text, "spec"), "spec").args


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *[("3e-4", 3e-4), ("1E5", 1e5), ("-1.5e+3", -1500.0), (".5e1", 5.0), ("1.0e-5", 1e-5)],
        *[("2^-9", 2**-9), ("2^0.5", 2**0.5), ("2^16", 65536), ("3", 3)],
        ("[1e-4, {a: [2^-1]}]", [1e-4, {"a": [0.5]}]),
    ],
)
def test_numbers_as_people_write_them(written: str, value: Any) -> None:
    found = args_of(written)["x"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("written", "text"),
    [
        *[("'3e-4'", "3e-4"), ('"2^-9"', "2^-9"), ("!!str 1e-4", "1e-4")],
        *[("2**-9", "2**-9"), ("1e-4x", "1e-4x"), ("v2^3", "v2^3"), ("e5", "e5")],
    ],
)
def test_what_is_quoted_or_of_another_form_stays_text(written: str, text: str) -> None:
    assert args_of(written) == {"x": text}


@pytest.mark.parametrize("written", ["1e400", "0^-1", "10^400", ".inf", "[{a: .nan}]"])
def test_a_number_that_does_not_exist_is_refused(written: str) -> None:
    with pytest.raises(
        InputError, match=r"^spec line 1, column 25: args: expected a .*number.*, found "
    ):
        args_of(written)


def test_text_that_looks_like_a_number_stays_text_elsewhere() -> None:
    """A hash may consist of digits around one e."""
    assert load_yaml("protocol_hash: 1234567890123e45", "x") == {
        "protocol_hash": "1234567890123e45"
    }


def test_the_protocol_of_other_arguments_keeps_its_hash(tiny: dict[str, Any]) -> None:
    tiny["model"] = load_yaml(
        "{factory: models_of_mine:build, args: {ratio: 3, dropout: 0.1, eps: 1.0e-5, act: gelu, "
        "tied: no, name: 2e, sizes: [1, 2.5, x-1e4], more: {a: null}}}",
        "x",
    )
    tiny["train"], tiny["sweep"] = {"steps": 10}, {"widths": [16], "axes": {"lr": [3e-4]}}
    data = DataProtocol(source="stdlib", sha256="0" * 64, bytes=1_000_000, eval_fraction=0.1)
    spec = validated(SweepSpec, tiny, "spec")
    assert Protocol.of(spec, data, 64).hash == "7973707fe28a0a75"
