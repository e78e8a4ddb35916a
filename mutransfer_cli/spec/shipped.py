"""The shipped specs: what each compares and about how much it trains, and a spec's own text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mutransfer_cli.spec.matrix import ROWS, VARIANTS, rows_of, variants_of
from mutransfer_cli.spec.sources import existing_spec, no_row, shipped_files
from mutransfer_cli.spec.sweep import SweepGrid
from mutransfer_cli.spec.yaml_io import dump_yaml, flow, load_yaml, read_text

SMALL = "cpu"  # the variant for two CPU cores
# of one core at widths 16 to 256; half to twice as much in the sweeps of recipes/README.md
CORE_FLOPS = 1.5e10
EXAMPLES = "To begin with, and examples of own models."
KEY = re.compile(r"\s*([\w-]+):")


@dataclass(frozen=True)
class Line:
    """A shipped spec, or several that differ in the end of their names.

    Attributes:
        name: what their names begin with, or the name.
        ends: the ends of their names; empty for one spec.
        compares: what they compare, in words.
        trials: of each, in its small variant if it has one.
        flops: of each, in the same variant; None if only the model's code tells.
        small: whether these are those of the small variant.
    """

    name: str
    ends: tuple[str, ...]
    compares: str
    trials: int
    flops: float | None
    small: bool


@dataclass(frozen=True)
class Chapter:
    """A file of shipped specs, or those that are no matrix."""

    head: str
    lines: tuple[Line, ...]


def chapters(only: str | None = None) -> list[Chapter]:
    """All shipped specs; those alone first, then each matrix with the head of its file.

    Args:
        only: the name of a matrix, such as `everett`.
    """
    alone, matrices = list[Line](), list[Chapter]()
    for name, path in shipped_files().items():
        text = read_text(path)
        document = load_yaml(text, str(path))
        if only not in (None, name):
            continue
        if ROWS not in document:
            alone.append(_line(name, (), _first_sentence(_head(text)), document))
            continue
        lines = tuple(_lines(name, document, _comments(text), str(path)))
        matrices.append(Chapter(_head(text), lines))
    alone.sort(key=lambda line: (not line.name.startswith("quickstart"), line.name))
    return [*([Chapter(EXAMPLES, tuple(alone))] if alone else []), *matrices]


def is_matrix(name: str) -> bool:
    """Whether this is the name of a shipped file that holds several specs."""
    path = shipped_files().get(name)
    return path is not None and bool(rows_of(load_yaml(read_text(path), str(path)), str(path)))


def text_of(name: str) -> str:
    """A spec by path or shipped name, as YAML that runs by itself.

    Raises:
        InputError: there is no such spec.
    """
    path, row = existing_spec(name)
    text = read_text(path)
    document = load_yaml(text, str(path))
    if row is None:
        # the path of a config counts from the spec's folder
        config = (document.get("model") or {}).get("hf")
        return text.replace(f"hf: {config}", f"hf: {path.parent / config}") if config else text
    rows = rows_of(document, str(path))
    if row not in rows:
        raise no_row(name, path, rows)
    return f"# {name}, a row of {path.name}\n{dump_yaml(rows[row])}"


def _lines(name: str, document: Any, comments: Mapping[str, str], where: str) -> Iterator[Line]:
    """The specs of a matrix, those of one group together."""
    specs, parents = rows_of(document, where), dict(_parents(document))
    changes = dict(_changes(document))
    groups: dict[str, list[str]] = {}
    for row in specs:
        group = next((one for one in parents[row] if row.startswith(f"{one}-")), row)
        groups.setdefault(group, []).append(row)
    for group, rows in groups.items():
        whole = rows == [group]
        said = next((comments[one] for one in (group, *parents[rows[0]]) if one in comments), "")
        compares = comments.get(group) or (flow(changes[group])[1:-1] if whole else said)
        first = _line(f"{name}/{group}", (), compares or said, specs[rows[0]])
        ends = tuple(row.removeprefix(f"{group}-") for row in rows)
        yield first if whole else replace(first, ends=ends)


def _parents(document: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each row with the rows around it, the innermost first."""
    for name, row in document[ROWS].items():
        if ROWS in row:
            yield from _parents(row, (name, *above))
        else:
            yield name, above


def _changes(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with the keys that it gives itself, but for sizes of the sweep."""
    for name, row in document[ROWS].items():
        sections = {k: v for k, v in row.items() if k not in (ROWS, VARIANTS, "sweep")}
        yield name, {key: value for section in sections.values() for key, value in section.items()}
        if ROWS in row:
            yield from _changes(row)


def _line(name: str, ends: tuple[str, ...], compares: str, document: Any) -> Line:
    variants = variants_of(document, name)
    spec = variants.get(SMALL, variants[None])
    grid = SweepGrid.model_validate(spec["sweep"])
    flops = _flops(spec, grid)
    return Line(name, ends, compares, grid.size, flops, SMALL in variants)


def _flops(spec: Any, grid: SweepGrid) -> float | None:
    """About what the matrices of the built-in models cost: 6 FLOPs for each weight and token."""
    model, data, train = spec.get("model") or {}, spec["data"], spec["train"]
    if "factory" in model:
        return None
    tokens = train["steps"] * train.get("batch", 8) * train.get("context", 64)
    depth, vocab = model.get("depth", 2), 256
    if model.get("family") == "mlp":
        tokens = train["steps"] * train.get("batch", 8)
        weights = [(data["inputs"] + depth * w + data["outputs"]) * w for w in grid.widths]
    else:
        weights = [12 * depth * w**2 + vocab * w for w in grid.widths]
    return float(6 * tokens * sum(weights) * grid.size / len(grid.widths))


def _head(text: str) -> str:
    """The comment that a file begins with, on one line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def _comments(text: str) -> dict[str, str]:
    """The sentence above each key, by key; titles of parts have no full stop and are left out."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            above.append(line.strip().removeprefix("#").strip())
            continue
        key, said = KEY.match(line), " ".join(above)
        if key is not None and said.endswith("."):
            found.setdefault(key[1], _first_sentence(said))
        above = []
    return found


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[a-z0-9)])\. |\.$", text)[0]
