"""Settings of a protocol that are known to break transfer, each with its source and a remedy.

Among them is a short horizon: the runs end before weight decay has set their steady state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mutransfer_cli.fit.exponents import AnyProtocol, Exponents, Horizon
from mutransfer_cli.rules.plan import AXES, AxisName, BaseParameter, role_parameters
from mutransfer_cli.rules.schedule import schedule_factors
from mutransfer_cli.spec.model import FactoryProtocol, HfProtocol
from mutransfer_cli.spec.records import AttentionSeen

LEAST_HORIZON = 1.0
NEAR = 0.2  # distance from 1 at which gains start
LINGLE = "second-hand, of Lingle 2024 (arXiv 2404.05728)"
KOSSON = "Kosson et al. 2025 (arXiv 2510.19093)"
FAN = "Fan et al. 2025 (arXiv 2510.15262)"
HAAS = "Haas et al. 2025 (arXiv 2505.22491)"

Axes = Mapping[AxisName, Sequence[float]]


def horizon_of(protocol: AnyProtocol, width: int, lr: float, weight_decay: float) -> Horizon:
    """The horizon at base values lr and weight decay; the rate is constant without a schedule."""
    train = protocol.train
    planned = protocol.scaling.plan(
        protocol.optimizer, role_parameters(), width, {"lr": lr, "weight_decay": weight_decay}
    )
    (hidden,) = (parameter for parameter in planned if parameter.role == "hidden")
    factors = schedule_factors(
        train.steps, train.warmup, train.schedule or "constant", train.decay_fraction
    )
    return Horizon(
        width=width,
        lr=lr,
        weight_decay=weight_decay,
        value=(hidden.independent or 0.0) * sum(factors),
        at_most=train.schedule is None,
    )


def short_horizon(horizon: Horizon | None) -> dict[str, str]:
    """Warn, by code, of runs that were too short for their weight decay."""
    if horizon is None or horizon.value >= LEAST_HORIZON:
        return {}
    return {
        "short_horizon": f"at width {horizon.width} the sum of lr * weight_decay over the steps is "
        f"{'at most ' if horizon.at_most else ''}{horizon.value:.3g}: below 1 the runs never reach "
        "the steady state that weight decay sets, and its exponent is that of short runs; train "
        "longer"
    }


def axes_of(trials: Iterable[Mapping[AxisName, float]]) -> Axes:
    """All values of each hyperparameter, from those of every trial."""
    found: dict[AxisName, set[float]] = {}
    for axes in trials:
        for name, value in axes.items():
            found.setdefault(name, set()).add(value)
    return {name: sorted(values) for name, values in found.items()}


def warnings_of(document: Exponents, trials: pd.DataFrame) -> tuple[str, ...]:
    """Sentences about everything in the fitted protocol, if there is one, that breaks transfer."""
    if document.protocol is None:
        return ()
    axes = {axis: trials[axis].tolist() for axis in AXES if axis in trials}
    known = (document.protocol, trials["width"], axes)
    # a fit of weight decay reports the horizon of its optimum itself
    short = () if document.decay or document.groups else too_short(*known)
    base_plan = tuple(record.parameter() for record in document.base_plan)
    return (*breakers(*known, ModelSeen(base_plan, document.attention)), *short)


@dataclass(frozen=True)
class ModelSeen:
    """The proxies' model as it was seen; empty for own results."""

    base_plan: tuple[BaseParameter, ...] = ()
    attention: AttentionSeen | None = None


NOTHING_SEEN = ModelSeen()


def breakers(
    protocol: AnyProtocol, widths: Iterable[int], axes: Axes, seen: ModelSeen = NOTHING_SEEN
) -> tuple[str, ...]:
    """One sentence for each setting that breaks transfer.

    Args:
        axes: the values of each hyperparameter that were or will be tried.
        seen: the model, where it is not the built-in one.
    """
    is_own = isinstance(protocol.model, FactoryProtocol | HfProtocol)
    return (
        *(_of_own_model(protocol, seen) if is_own else _of_the_model(protocol)),
        *_of_few_outputs(protocol, max(widths)),
        *_of_decay(protocol, axes),
    )


def too_short(protocol: AnyProtocol, widths: Iterable[int], axes: Axes) -> tuple[str, ...]:
    """A sentence if no trial's weight decay reaches its steady state."""
    decay, rates = _strongest_decay(protocol, axes), sorted(axes["lr"])
    if not decay:
        return ()
    horizon = horizon_of(protocol, max(widths), rates[len(rates) // 2], decay)
    if horizon.value >= LEAST_HORIZON:
        return ()
    return (
        f"horizon {horizon.value:.2g} at width {horizon.width}, lr {horizon.lr:.3g} and weight "
        f"decay {decay:g}: below 1 the steady state that weight decay sets is never reached "
        f"({KOSSON}); more steps or stronger decay avoid it",
    )


def _of_the_model(protocol: AnyProtocol) -> Iterator[str]:
    model, by_width = protocol.model, protocol.parameterization.name in ("mup", "mean_field")
    gains = getattr(model, "gains", "none")
    if by_width and gains != "none":
        yield (
            f"model.gains {gains}: trainable gains break transfer under muP ({LINGLE}); "
            "gains: none avoids it"
        )
    if by_width and model.attention_scale == "1/sqrt(d_head)":
        yield (
            f"attention scale 1/sqrt(d_head) breaks transfer under muP ({LINGLE}); "
            "attention_scale: 1/d_head avoids it"
        )
    if getattr(model, "tied_embeddings", False):
        yield (
            "model.tied_embeddings: one weight has one rate, but embedding and readout need two "
            "(Everett et al. 2024, arXiv 2407.05872, Table 1); tied_embeddings: false avoids it"
        )


def _of_own_model(protocol: AnyProtocol, seen: ModelSeen) -> Iterator[str]:
    """The same of a model that is not built in, with what was seen in place of settings."""
    by_width = protocol.parameterization.name in ("mup", "mean_field")
    gains = [p for p in seen.base_plan if p.role == "vector" and abs(p.init_mean - 1) < NEAR]
    if by_width and gains:
        yield f"{_named(gains)}: trainable gains break transfer under muP ({LINGLE})"
    attention, exponent = seen.attention, seen.attention.exponent if seen.attention else None
    if by_width and attention and attention.head_size and attention.factor:
        size, factor = attention.head_size, attention.factor
        if math.isclose(factor, size**-0.5, rel_tol=1e-6):
            constant = "; with heads of one size it differs from 1/d_head by a constant factor"
            yield (
                f"attention multiplies q.k by {factor:.4g} at head size {size}, 1/sqrt(d_head), "
                f"which breaks transfer under muP ({LINGLE}){constant if exponent == 0 else ''}"
            )
    elif by_width and exponent:
        yield (
            f"attention makes q.k of aligned queries and keys grow as width^{exponent:g}, as under "
            f"1/sqrt(d_head), which breaks transfer under muP ({LINGLE})"
        )
    tied = [p for p in seen.base_plan if p.is_tied_readout]
    if tied:
        yield (
            f"{_named(tied)}: is embedding and readout, so that both have one constant factor on "
            "their rate where two weights have two (Everett et al. 2024, arXiv 2407.05872, Table 1)"
        )


def _named(parameters: Sequence[BaseParameter]) -> str:
    """The first parameter with its shape, and how many more there are."""
    first, *others = parameters
    shape = " x ".join(map(str, first.shape))
    return f"{first.name} ({shape})" + (f" and {len(others)} more" if others else "")


def _of_few_outputs(protocol: AnyProtocol, widest: int) -> Iterator[str]:
    section, model = protocol.parameterization, protocol.model
    outputs = getattr(model, "outputs", None) or model.vocab
    by_layer = section.name in ("standard", "ntk") and section.lr_rule == "per_layer"
    if by_layer and outputs is not None and outputs < widest:
        yield (
            f"{section.name} with rates by layer and {outputs} outputs, fewer than the width "
            f"{widest}: the readout is aligned with what changes below it, and logits grow with "
            f"width ({HAAS}); more outputs, or name: mup, avoid it"
        )


def _of_decay(protocol: AnyProtocol, axes: Axes) -> Iterator[str]:
    section = protocol.parameterization
    coupled = section.decay_convention == "lr_coupled" and section.weight_decay == "constant"
    if coupled and section.lr_rule == "per_layer" and _strongest_decay(protocol, axes):
        yield (
            "weight_decay constant and lr_coupled: the decay of a step, lr * weight_decay, falls "
            f"with the rates as width grows ({KOSSON}); linear_width, theirs, or sqrt_width "
            f"({FAN}) avoids it"
        )


def _strongest_decay(protocol: AnyProtocol, axes: Axes) -> float:
    if protocol.parameterization.weight_decay == "none":
        return 0.0
    return max((*axes.get("weight_decay", ()), protocol.optimizer.weight_decay))
