"""How large the outputs of a model's parts are at init under muP, and their slopes in width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mutransfer_cli.diagnose.forward import Places, watched
from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.build import build_proxy, proxy_shapes, read_model
from mutransfer_cli.rules.plan import BaseParameter, BaseValues, parameter_exponents, plan
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.spec.model import HfProtocol
from tests.proxies.census import CONTEXT, VOCAB, WIDTH, small_config

MUP = Rule("mup")
BASE = BaseValues(lr=1.0, weight_decay=0.0, eps=None)
SEQUENCES = 8
LOGITS, EMBEDDED = "logits", "input of the first block"


def slopes(
    model: HfProtocol, widths: Sequence[int], seeds: Sequence[int]
) -> dict[str, tuple[float, float]]:
    """Slope in width of the RMS of each part's output and of the logits, and the rule's.

    Parts are the embeddings together, blocks and the readout; slopes are means over seeds.

    Raises:
        InputError: the model cannot be planned.
    """
    reading = read_model(model, CONTEXT, WIDTH)
    if reading.tried.why_not:
        raise InputError(f"model: cannot be run on tokens: {reading.tried.why_not}")
    sizes = [sizes_at(model, width, reading.base_plan, seeds) for width in widths]
    found: dict[str, list[float]] = {}
    for seed, name in sizes[0]:
        logs = np.log2([at_width[seed, name] for at_width in sizes])
        found.setdefault(name, []).append(float(np.polyfit(np.log2(widths), logs, 1)[0]))
    expected = {LOGITS: logits_slope(reading.base_plan)}
    return {name: (float(np.mean(each)), expected.get(name, 0.0)) for name, each in found.items()}


def logits_slope(base_plan: Sequence[BaseParameter]) -> float:
    """The rule's exponent of width in the logits: a sum of n independent terms."""
    readout = [p for p in base_plan if p.role == "readout"]
    x = parameter_exponents(MUP, replace(readout[-1], own_multiplier=0.0))
    return 0.5 + float(x.init_std + x.multiplier)


@torch.no_grad()
def sizes_at(
    model: HfProtocol, width: int, base_plan: Sequence[BaseParameter], seeds: Sequence[int]
) -> dict[tuple[int, str], float]:
    """RMS of every part's output and of the logits, by seed and name; zeros are left out."""
    module = build_proxy(model, CONTEXT, WIDTH, width).eval()
    own = {name: parameter.clone() for name, parameter in module.named_parameters()}
    shapes = proxy_shapes(model, CONTEXT, WIDTH, width)
    planned = plan(base_plan, MUP, WIDTH, width, BASE, shapes)
    found: dict[tuple[int, str], float] = {}
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for p in planned:
            assert p.init_std is not None, "a plan knows every init"
            drawn = torch.randn(p.shape, generator=generator) * p.init_std + p.init_mean
            values = own[p.name] if p.keeps_draw else drawn
            module.get_parameter(p.name).copy_(p.multiplier * values)
        tokens_BS = torch.randint(VOCAB, (SEQUENCES, CONTEXT), generator=generator)
        with seen_parts(module) as outputs:
            logits = module(tokens_BS).logits
        outputs[LOGITS] = logits
        found |= {(seed, name): rms(x) for name, x in outputs.items() if rms(x)}
    return found


@contextmanager
def seen_parts(module: nn.Module) -> Iterator[dict[str, Tensor]]:
    """The input of the first block, which the embeddings make, and every block's output."""
    places, found = Places.of(module), dict[str, Tensor]()
    kept = {
        name: block
        for name, block in places.blocks.items()
        if not isinstance(block, nn.Embedding) and name.rpartition(".")[2].isdigit()
    }

    def keep(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        found.setdefault(EMBEDDED, tensors[0].clone())

    first = next(iter(kept.values()))
    handle = first.register_forward_pre_hook(keep, with_kwargs=True)
    with watched(Places(kept, {})) as seen:
        yield found
    handle.remove()
    found |= seen.outputs


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def small_model(model_type: str) -> HfProtocol:
    return HfProtocol(hf=small_config(model_type), untie=True, roles={}, vocab=VOCAB)
