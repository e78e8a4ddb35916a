"""From a protocol to modules and to the base plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from mutransfer_cli.errors import InputError, MutransferError
from mutransfer_cli.proxies.calling import TrialRun, run_once, scales_of
from mutransfer_cli.proxies.comparing import Comparison, UnlikeWidths, Watch, confirmed
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.proxies.factory import factory_builder, for_real, message_of, on_meta
from mutransfer_cli.proxies.folding import with_norm
from mutransfer_cli.proxies.hf import hf_builder
from mutransfer_cli.proxies.inits import read_inits
from mutransfer_cli.proxies.perceptron import MLP
from mutransfer_cli.proxies.reading import Note, is_convolution, read_weights, shapes_of, silent
from mutransfer_cli.proxies.roles import base_plan
from mutransfer_cli.proxies.transformer import READOUT, Transformer
from mutransfer_cli.proxies.width_factors import attention_power, with_own_factors
from mutransfer_cli.rules.plan import BaseParameter
from mutransfer_cli.spec.decoder import ModelProtocol
from mutransfer_cli.spec.model import AnyModel, FactoryProtocol, HfProtocol, MLPProtocol
from mutransfer_cli.spec.records import AttentionSeen

BuiltIn = ModelProtocol | MLPProtocol
Build = Callable[[int], nn.Module]
GROWTH = 2  # of the wider model that tells what depends on width


@dataclass(frozen=True)
class Reading:
    """A model before it is trained, as far as it can be read.

    Attributes:
        base_plan: every trainable parameter at the base width.
        tried: its forward pass at the base width; empty for a built-in model.
        attention: exponent of width in the size of q.k times its scale, for equal queries and keys;
            None where no attention was seen.
        convolutions: names of the weights of convolutions.
        scales: head size and factor on q.k of each call of torch's attention.
    """

    base_plan: tuple[BaseParameter, ...]
    tried: TrialRun
    attention: float | None = None
    convolutions: frozenset[str] = frozenset()
    scales: frozenset[tuple[int, float]] = frozenset()

    @property
    def attention_seen(self) -> AttentionSeen | None:
        """The attention as it is recorded; None where there was none."""
        if self.attention is None and not self.scales:
            return None
        (size, factor), *others = self.scales or [(None, None)]
        known = (None, None) if others else (size, factor)
        return AttentionSeen(head_size=known[0], factor=known[1], exponent=self.attention)


def build_built_in(model: BuiltIn, context: int, width: int) -> Transformer | MLP:
    if isinstance(model, MLPProtocol):
        normed = model.norm == "rms"
        return MLP(model.inputs, model.outputs, width, model.depth, model.activation, normed)
    return Transformer(width, model.vocab, context, model.attention_factor_at(width), model)


def builder(model: FactoryProtocol | HfProtocol, context: int, base_width: int) -> Build:
    """The function from width to module."""
    if isinstance(model, FactoryProtocol):
        return factory_builder(model, context)
    return hf_builder(model, context, base_width)


def build_proxy(model: AnyModel, context: int, base_width: int, width: int) -> nn.Module:
    """The protocol's model at a width; its values are replaced by those of a plan."""
    if isinstance(model, BuiltIn):
        return build_built_in(model, context, width)
    return for_real(builder(model, context, base_width), width)


def proxy_shapes(
    model: AnyModel, context: int, base_width: int, width: int
) -> dict[str, tuple[int, ...]] | None:
    """Every parameter's shape at a width; None for a built-in model: they follow from the base."""
    if isinstance(model, BuiltIn):
        return None
    return shapes_of(on_meta(builder(model, context, base_width), width))


def read_model(
    model: AnyModel,
    context: int,
    base_width: int,
    note: Note = silent,
    example: Example | None = None,
) -> Reading:
    """Read a protocol's model at the base width.

    Args:
        example: what it is run on; some tokens if None.

    Raises:
        InputError: no plan can be made for the model, with the reason.
    """
    if isinstance(model, BuiltIn):
        build = partial(build_built_in, model, context)
        return Reading(read_base_plan(build, base_width), TrialRun())
    own = builder(model, context, base_width)
    return read_built(model, own, base_width, context, note, example)


def read_base_plan(
    build: Callable[[int], Transformer | MLP], base_width: int
) -> tuple[BaseParameter, ...]:
    """Every parameter of a built-in model at the base width, with role and init std."""
    with torch.device("meta"):
        base, wider = build(base_width), build(2 * base_width)
    weights = read_weights(base, wider)
    if isinstance(base, MLP):
        return base_plan(weights, None, READOUT, base.inits(), {})
    if base.options.tied_embeddings:
        # under both of its names the shared weight would have two roles; `refuse_tied` in
        # rules/rule.py refuses rules that treat them differently
        weights = [[w for w in names if w.name != "embedding.weight"] for names in weights]
    plan = base_plan(weights, None, READOUT, base.inits(), {})
    if base.options.readout_init != "standard":
        return plan
    return tuple(replace(p, init_exponent=-0.5) if p.name == READOUT else p for p in plan)


def read_built(
    model: FactoryProtocol | HfProtocol,
    build: Build,
    base_width: int,
    context: int,
    note: Note = silent,
    example: Example | None = None,
) -> Reading:
    """`read_model` given the function from width to module."""
    base, wide = for_real(build, base_width), for_real(build, GROWTH * base_width)
    weights, inits = read_weights(base, wide), read_inits(base)
    if example is None:
        assert model.vocab is not None, "a model of samples has an example"
        example = Example.of_tokens(context, model.vocab)
    tried = run_once(base, example)
    convolutions = frozenset(w.name for w, *_ in weights if is_convolution(w.owner))
    if tried.why_not:
        try:
            plan = base_plan(weights, None, tried.readout, inits, model.roles, note)
        except InputError as error:
            raise InputError(f"model: cannot be run ({tried.why_not}); {error}") from error
        return Reading(plan, tried, convolutions=convolutions)
    scales, watch = scales_of(base, example), Watch.of(base, wide, example)
    plan = base_plan(weights, watch.trace, tried.readout, inits, model.roles, note)
    plan = with_norm(plan, base, example)
    code = code_of(watch, build, base_width)
    if code is None:
        note(
            f"model: takes other ways through its code at widths {base_width} and "
            f"{GROWTH * base_width}, so that powers of width in that code were not looked for"
        )
        return Reading(plan, tried, None, convolutions, scales)
    widths = base_width, GROWTH * base_width
    plan = with_own_factors(plan, code, watch.patterns, model.own_multipliers, widths, note)
    return Reading(plan, tried, attention_power(watch.trace, code), convolutions, scales)


def code_of(watch: Watch, build: Build, base_width: int) -> Comparison | None:
    """Measure what the model's own code does with width, and confirm it at a third one; None if it
    takes other ways at other widths.

    Raises:
        InputError: the model cannot be run at a wider width.
    """
    width = GROWTH * base_width
    try:
        code = watch.compared(GROWTH)
        if not code.deviates:
            return code
        width *= GROWTH
        widest = replace(watch, wide=for_real(build, width))
        return confirmed(code, widest.compared(GROWTH**2))
    except UnlikeWidths:
        return None
    except MutransferError:
        raise
    except Exception as error:
        raise InputError(
            f"model: cannot be run at width {width}: {type(error).__name__}: {message_of(error)}"
        ) from error
