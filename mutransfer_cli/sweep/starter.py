"""A first spec for a model: it is tried, given widths that suit it, and sized for this machine."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mutransfer_cli.data.corpus import size_of
from mutransfer_cli.data.load import load_corpus
from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.build import BuiltIn, builder
from mutransfer_cli.proxies.calling import scales_of
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.proxies.factory import for_real, message_of
from mutransfer_cli.proxies.reading import Note, silent
from mutransfer_cli.spec.data import OwnData
from mutransfer_cli.spec.model import FactorySpec, HfProtocol, HfSpec
from mutransfer_cli.spec.protocol import model_protocol
from mutransfer_cli.spec.sweep import SWEEP_SCHEMA, SweepSpec
from mutransfer_cli.spec.template import render
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.sizing import RATES, SEEDS, Size, best_rate, fitting, step_seconds
from mutransfer_cli.sweep.spawn import worker_count
from mutransfer_cli.train.device import choose_device
from mutransfer_cli.words import duration, rate_and_power

BUILT_IN = {"family": "transformer", "depth": 1, "head_size": 8}
# one head is too few for a narrow model to resemble a wide one, so 16 is not a width here
MULTIPLES: Mapping[int, tuple[int, ...]] = {16: (2, 3, 4, 6, 8, 12)}
WHOLE = (1, 2, 3, 4, 6, 8)
UNITS = (16, 24, 32, 40, 48, 64, 80, 96, 128)
# sizes of a config that are too large for a small proxy
MOST_HEAD_SIZE, MOST_DEPTH = 32, 4
SMALL_HEAD_SIZE, SMALL_DEPTH = 16, 2
TOKENS = {"batch": 4, "context": 32, "eval_batches": 64}
BATCH, EVAL_BATCHES = 32, 8  # of samples, if there are enough
OVERHEAD = 10.0  # seconds in which processes start, read the data and evaluate
# the rates reach two octaves to both sides of the best one of a short run: those beyond fit no bowl
HALF_RANGE, PER_OCTAVE = 4.0, (RATES - 1) / 4


@dataclass(frozen=True)
class Starter:
    """A first spec.

    Attributes:
        text: YAML with comments.
        size: what will be trained.
        where: device and number of workers, in words.
    """

    text: str
    size: Size
    where: str


@dataclass(frozen=True)
class Widths:
    """Widths that a model can have, ascending, multiples of `unit`."""

    unit: int
    widths: tuple[int, ...]

    @classmethod
    def of(cls, unit: int, multiples: Sequence[int]) -> Widths:
        return cls(unit, tuple(unit * multiple for multiple in multiples))

    @property
    def base_width(self) -> int:
        """Twice the unit, which is among the widths."""
        return 2 * self.unit


def starter(
    model: str | None, data: str | None, hf: Path | None, target: Path | None, note: Note = silent
) -> Starter:
    """A spec of the built-in transformer, of a function's model or of a config's, that can be run.

    Args:
        model: `package.module:function` of the user's model.
        data: the function that returns the samples which that model reads; None for text.
        hf: the path of a config.json.
        target: the file that the spec is for; None if there is none.

    Raises:
        InputError: the model cannot be used, with the reason.
    """
    note("reading data and model")
    folder = Path() if target is None else target.parent
    section = BUILT_IN if model is None else {"factory": model}
    if hf is not None:
        section = _of_config(hf, folder)
    document = document_of(section, data)
    widths = suitable(document, folder) if section is not BUILT_IN else Widths.of(16, WHOLE)
    spec = validated(SweepSpec, _with_widths(document, widths), "the first spec")
    sweep = Sweep.prepare(spec, folder, note)
    device, base_width = choose_device("auto", "fp32"), widths.base_width
    note(f"timing steps of {len(widths.widths)} widths, {widths.widths[0]} to {widths.widths[-1]}")
    seconds = step_seconds(sweep, device)
    workers = worker_count(None, device.type, len(widths.widths) * RATES * len(SEEDS))
    size = fitting(seconds, base_width, workers)
    note(f"trying learning rates at width {base_width}")
    best = best_rate(sweep, size.steps, device, seconds[base_width])
    unit = "CPU core" if device.type == "cpu" else "GPU"
    where = f"{workers} {unit}{'s' if workers > 1 else ''} of this machine"
    text = render(
        "spec.yaml.j2",
        name=target or "spec.yaml",
        what=_what(section),
        where=where,
        time=f"about {duration(size.seconds + OVERHEAD)}",
        size=size,
        document=document,
        base_width=base_width,
        widths_note=f"Five or six over a factor of 8, here multiples of {widths.unit}",
        low=best / HALF_RANGE,
        high=best * HALF_RANGE,
        per_octave=PER_OCTAVE,
        best=rate_and_power(best),
        seeds=list(SEEDS),
    )
    return Starter(text, size, where)


def _of_config(hf: Path, folder: Path) -> dict[str, Any]:
    """The section of a config, with smaller heads and fewer layers where it has large ones."""
    path = hf if hf.is_absolute() else os.path.relpath(hf, folder)
    section: dict[str, Any] = {"hf": str(path)}
    config = HfSpec(hf=section["hf"]).config(folder)
    declared = HfProtocol(hf=config, untie=False, roles={}, vocab=1)
    if (declared.own_head_size or 0) > MOST_HEAD_SIZE:
        section["head_size"] = SMALL_HEAD_SIZE
    if (declared.own_depth or 0) > MOST_DEPTH:
        section["depth"] = SMALL_DEPTH
    return section


def document_of(section: dict[str, Any], data: str | None) -> dict[str, Any]:
    """A spec as written, with values in place of those that are yet to be found."""
    return {
        "schema": SWEEP_SCHEMA,
        "model": section,
        "data": {"source": "stdlib"} if data is None else {"factory": data},
        "parameterization": {"name": "mup", "base_width": 32},
        "train": {"steps": 100, "warmup": 10, **(TOKENS if data is None else _batches(data))},
        "sweep": {"widths": [32], "axes": {"lr": [2**-6]}, "seeds": list(SEEDS)},
    }


def _batches(data: str) -> dict[str, int]:
    """Batches that the samples held out for evaluation fill."""
    held_out = size_of(load_corpus(OwnData(factory=data), Path()).eval)
    batch = min(BATCH, 2 ** int(math.log2(held_out)))
    return {"batch": batch, "eval_batches": min(EVAL_BATCHES, held_out // batch)}


def _with_widths(document: dict[str, Any], widths: Widths) -> dict[str, Any]:
    rates = [2.0**octave for octave in range(-9, RATES - 9)]
    sweep = {"widths": list(widths.widths), "axes": {"lr": rates}, "seeds": list(SEEDS)}
    rule = document["parameterization"] | {"base_width": widths.base_width}
    return document | {"parameterization": rule, "sweep": sweep}


def suitable(document: dict[str, Any], folder: Path) -> Widths:
    """The narrowest widths of UNITS at which the model can be built and run.

    Heads have to have one size at all widths, or one number: a model that fills its width with
    heads of another size at some width is not the same model there.

    Raises:
        InputError: the model cannot be run at any of them.
    """
    spec = validated(SweepSpec, document, "the first spec")
    corpus = load_corpus(spec.data, folder)
    example = corpus.example(spec.train.context, spec.loss)
    model = model_protocol(spec, corpus.vocab, folder)
    assert not isinstance(model, BuiltIn), "the built-in model has widths of its own"
    runnable, problem = list[Widths](), ""
    for unit in UNITS:
        widths = Widths.of(unit, MULTIPLES.get(unit, WHOLE))
        build = builder(model, spec.train.context, widths.base_width)
        try:
            same = alike(build, widths.widths, example)
        except InputError as error:
            problem = str(error)
        except Exception as error:
            problem = f"{type(error).__name__}: {message_of(error)}"
        else:
            runnable.append(widths)
            if same:
                return widths
    if runnable:
        return runnable[0]
    if isinstance(spec.model, FactorySpec) and example.vocab is not None:
        raise InputError(
            f"{spec.model.factory}: cannot be run on text, as tokens of shape "
            f"[batch, {spec.train.context}] ({problem}); if it reads samples of its own, add the "
            "function that returns them, such as my_data.py:batches",
            remedy="data",
        )
    raise InputError(f"{_what(document['model'])}: cannot be run ({problem})")


def alike(build: Callable[[int], nn.Module], widths: Sequence[int], example: Example) -> bool:
    """Whether heads have one size at all widths, or one number; any error of the model passes."""
    sizes, numbers = set(), set()
    for width in widths:
        found = scales_of(for_real(build, width), example)
        sizes.add(frozenset(size for size, _ in found))
        numbers.add(frozenset(width / size for size, _ in found))
    return len(sizes) == 1 or len(numbers) == 1


def _what(section: dict[str, Any]) -> str:
    if section is BUILT_IN:
        return "the built-in transformer"
    return str(section.get("factory") or section["hf"])
