"""The horizon of a run: how much of its steady state weight decay could set."""

from __future__ import annotations

from mutransfer_cli.files.declared import DeclaredProtocol
from mutransfer_cli.files.exponents import Horizon
from mutransfer_cli.files.records import Protocol
from mutransfer_cli.rules.plan import role_parameters
from mutransfer_cli.rules.schedule import schedule_factors

LEAST_HORIZON = 1.0


def horizon_of(
    protocol: Protocol | DeclaredProtocol, width: int, lr: float, weight_decay: float
) -> Horizon:
    """At base values lr and weight decay; without a schedule the rate counts as constant."""
    train = protocol.train
    planned = protocol.parameterization.plan(
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
        value=hidden.lr * hidden.weight_decay * sum(factors),
        at_most=train.schedule is None,
    )


def short_horizon(horizon: Horizon | None) -> dict[str, str]:
    """The warning, by code, that the runs were too short for their weight decay."""
    if horizon is None or horizon.value >= LEAST_HORIZON:
        return {}
    return {
        "short_horizon": f"at width {horizon.width} the sum of lr * weight_decay over the steps is "
        f"{'at most ' if horizon.at_most else ''}{horizon.value:.3g}: below 1 the runs never reach "
        "the steady state that weight decay sets, and its exponent is that of short runs; train "
        "longer"
    }
