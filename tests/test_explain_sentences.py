"""The exact sentences that people see for likely faults of the files that they write or edit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.notebook.fitting import fit_exponents
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.protocol import DeclaredProtocol
from mutransfer_cli.spec.sources import load_spec
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.spec.yaml_io import dump, load_yaml, read_text
from mutransfer_cli.strict import Closed, validated
from tests.fit.test_from_tables import frame
from tests.test_explain import PROTOCOL, SPEC

# by file and by kind of fault: a part of the file, what stands there instead, and the sentence
FAULTS = load_yaml(read_text(Path(__file__).parent / "faults.yaml"), "faults")
MODELS: dict[str, type[Closed]] = {
    "spec": SweepSpec,
    "protocol": DeclaredProtocol,
    "exponents": Exponents,
    "recipe": Recipe,
}


class Fault(NamedTuple):
    """A fault of a file, and the sentence that tells it."""

    file: str
    old: str
    new: str
    sentence: str


def faults() -> Iterator[Fault]:
    for file, kinds in FAULTS.items():
        for rows in kinds.values():
            yield from (Fault(file, *row) for row in rows)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The text of each file without a fault; the results are those of a fit."""
    protocol = tmp_path_factory.mktemp("declared") / "protocol.yaml"
    protocol.write_text(PROTOCOL)
    fit = fit_exponents(frame(), protocol=protocol)
    exponents, recipe = dump(fit.exponents), dump(fit.recipe(width=4096))
    return {"spec": SPEC, "protocol": PROTOCOL, "exponents": exponents, "recipe": recipe}


def refusal(model: type[Closed], text: str) -> str | None:
    """The sentence for a file, without the list of valid words."""
    try:
        validated(model, load_yaml(text, "x"), "x")
    except InputError as error:
        return re.sub(r" \(valid: .*\)$", "", str(error))
    return None


@pytest.mark.parametrize(
    "fault", list(faults()), ids=lambda fault: f"{fault.file}: {fault.sentence}"
)
def test_a_fault_has_its_sentence(texts: dict[str, str], fault: Fault) -> None:
    text, model = texts[fault.file], MODELS[fault.file]
    assert refusal(model, text) is None
    changed, count = re.subn(fault.old, lambda _: fault.new, text, count=1)
    assert count == 1
    found = refusal(model, changed)
    # the places in a result depend on how long its numbers are
    if fault.file in ("exponents", "recipe"):
        found = re.sub(r"line \d+, column \d+", "line N", found or "")
    assert found == fault.sentence


def test_every_file_and_kind_of_fault_is_there() -> None:
    kinds = {"missing", "unknown key", "another word", "wrong type", "out of range"}
    assert set(FAULTS) == set(MODELS)
    for file in FAULTS:
        assert set(FAULTS[file]) == kinds, file


def test_several_faults_are_listed_in_order_each_with_the_file() -> None:
    text = SPEC.replace("steps: 100, batch: 8", "batch: 0, steps: x").replace("[0, 1]", "[a]")
    assert refusal(SweepSpec, text) == (
        "x: 3 faults\n"
        "  x line 6, column 9: train.batch: expected at least 1, found 0\n"
        "  x line 6, column 19: train.steps: expected a whole number such as 32, 1e5 or 2^16, "
        "found 'x'\n"
        "  x line 10, column 11: sweep.seeds.0: expected a whole number such as 32, 1e5 or 2^16, "
        "found 'a'"
    )


@pytest.mark.parametrize(
    ("below", "row", "variant", "sentence"),
    [
        ("rows: [a]", None, None, "line 12, column 1: rows: expected names with sections, found "),
        ("rows:\n  a: 3", "a", None, "line 13, column 3: rows.a: expected sections of a spec, f"),
        (
            "rows:\n  a:\n    rows: {b: }",
            "b",
            None,
            "line 14, column 12: rows.a.rows.b: expected sections of a spec, found nothing",
        ),
        (
            "rows:\n  a: {}\n  b:\n    rows: {a: {}}",
            "a",
            None,
            "line 15, column 12: rows: row 'a' is written twice",
        ),
        (
            "rows:\n  a:\n    train: {steps: 0}",
            "a",
            None,
            "line 14, column 13: row a: train.steps: expected at least 1, found 0",
        ),
        (
            "rows:\n  a:\n    model: {hidden_size: 3}",
            "a",
            None,
            "line 14, column 13: row a: model: unknown key 'hidden_size'; it belongs to sweep.wid",
        ),
        (
            "variants: [cpu]",
            None,
            "cpu",
            "line 12, column 1: variants: expected names with sections, found ['cpu']",
        ),
        (
            "variants:\n  cpu: 3",
            None,
            None,
            "line 13, column 3: variants.cpu: expected sections of a spec, found 3",
        ),
        (
            "variants:\n  cpu:\n    trian: {}",
            None,
            None,
            "line 14, column 5: variants.cpu: unknown key 'trian'; did you mean 'train'?",
        ),
        (
            "rows:\n  a:\n    variants:\n      cpu: {train: {batch: x}}",
            "a",
            "cpu",
            "line 15, column 21: row a: variants.cpu: train.batch: expected a whole number",
        ),
    ],
)
def test_a_fault_in_a_row_or_variant_has_its_place(
    tmp_path: Path, below: str, row: str | None, variant: str | None, sentence: str
) -> None:
    path = tmp_path / "many.yaml"
    path.write_text(f"{SPEC}{below}\n")
    name = path if row is None else path.with_suffix("") / row
    with pytest.raises(InputError) as found:
        load_spec(str(name), variant)
    assert str(found.value).startswith(f"{path} {sentence}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n- b\n", "x line 1, column 1: expected a mapping of keys, found ['a', 'b']"),
        ("# a note\n\n- a\n", "x line 3, column 1: expected a mapping of keys, found ['a']"),
        ("just text\n", "x: expected a mapping of keys, found 'just text'"),
        ("null\n", "x: expected a mapping of keys, found nothing"),
    ],
)
def test_a_document_that_is_no_mapping_is_refused(text: str, sentence: str) -> None:
    assert refusal(SweepSpec, text) == sentence
