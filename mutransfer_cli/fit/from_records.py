"""The exponents file of a sweep's records, or of the fits of a table's groups."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import get_args

import pandas as pd

from mutransfer_cli import __version__
from mutransfer_cli.fit.axes import fit_axes
from mutransfer_cli.fit.exponents import EXPONENTS_SCHEMA, AnyProtocol, Exponents, Group
from mutransfer_cli.rules.plan import AXES
from mutransfer_cli.rules.weight_decay import DecayConvention
from mutransfer_cli.spec.records import BaseParameterRecord, Records, Status
from mutransfer_cli.spec.rounding import with_one_value_each
from mutransfer_cli.spec.tables import trial_frame


def exponents_of_records(
    records: Records,
    metric: str = "eval_loss",
    scatter_below: float | None = None,
    resamples: int = 0,
) -> tuple[Exponents, pd.DataFrame]:
    """The exponents of a sweep, and its trials with the fitted loss as column eval_loss.

    Args:
        metric: eval_loss or train_loss.
    """
    header, trials = records.header, with_one_value_each(trial_frame(records.trials))
    if metric == "train_loss":
        trials = trials.drop(columns="eval_loss").rename(columns={"train_loss": "eval_loss"})
    protocol = header.protocol
    convention = protocol.parameterization.decay_convention
    options = (convention, "eval_loss", scatter_below, resamples)
    fits = fit_axes({"": trials}, AXES, *options, protocol=protocol)
    counts = Counter(record.status for record in records.trials)
    by_status = {status: counts[status] for status in get_args(Status)}
    document = exponents_of(
        metric, by_status, fits, protocol, base_plan=header.base_plan, convention=convention
    )
    return document.model_copy(update={"attention": header.attention}), trials


def exponents_of(
    metric: str,
    trials: Mapping[Status, int],
    groups: Mapping[str, Group],
    protocol: AnyProtocol | None,
    by: str | None = None,
    base_plan: tuple[BaseParameterRecord, ...] = (),
    convention: DecayConvention | None = None,
) -> Exponents:
    """The file of fits by group; without `by` there is one group.

    Args:
        trials: number of trials by status.
        protocol: how the runs were made; None where that is not known.
        convention: convention of the weight decays; None where it is not known.
    """
    alone = None if by else next(iter(groups.values()))
    return Exponents(
        schema_=EXPONENTS_SCHEMA,
        tool_version=__version__,
        metric=metric,
        axes=alone.axes if alone else {},
        decay=alone.decay if alone else None,
        groups={} if alone else dict(groups),
        trials=dict(trials),
        protocol_hash=protocol and protocol.hash,
        protocol=protocol,
        base_plan=base_plan,
        decay_convention=convention,
        weight_decay=alone.weight_decay if alone else None,
    )


def statuses(losses: list[float]) -> dict[Status, int]:
    """Number of own results by status; diverged runs have loss NaN."""
    diverged = sum(math.isnan(loss) for loss in losses)
    return {"ok": len(losses) - diverged, "diverged": diverged, "failed": 0}
