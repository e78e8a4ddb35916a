"""The exponents file of a table of own results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.axes import fit_axes, group_of, held_decay
from mutransfer_cli.fit.base_decay import applied_exponent, refuse_another_rule, to_base
from mutransfer_cli.fit.exponents import Axis, Exponents, Group
from mutransfer_cli.fit.from_records import exponents_of, statuses
from mutransfer_cli.fit.optima import fit_optima, grid_spacing
from mutransfer_cli.fit.options import TableOptions
from mutransfer_cli.fit.sentences import size_warnings
from mutransfer_cli.rules.plan import AXES, AxisName
from mutransfer_cli.rules.weight_decay import DecayConvention
from mutransfer_cli.spec.protocol import DeclaredProtocol, completed, load_protocol
from mutransfer_cli.spec.results import Results
from mutransfer_cli.spec.rounding import merged, with_one_value_each

Note = Callable[[str], None]


def exponents_of_table(
    results: Results,
    table: TableOptions,
    scatter_below: float | None,
    resamples: int,
    note: Note,
) -> tuple[Exponents, pd.DataFrame]:
    """The exponents of runs, and the rows with their loss as eval_loss.

    Args:
        results: runs that were read by `table.choices()`.
        note: receives what the user should know about the reading and the fit.

    Raises:
        InputError: the table and what is said about it do not fit together.
    """
    for sentence in results.notes:
        note(sentence)
    rows, by, sizes = results.rows, results.group, results.sizes
    option = table.decay_convention
    protocol = None if table.protocol is None else load_protocol(table.protocol, option)
    if protocol is not None and protocol.weight_decay_values == "applied":
        rows = _to_base(rows, protocol, table, by, note)
    if not table.optima:  # optima of different widths may differ by less than rounding
        rows = with_one_value_each(rows)
    groups = _grouped(rows, by)
    if protocol is not None and table.protocol is not None:
        protocol = completed(protocol, table.protocol, held_decay(rows), _varies(groups))
    convention = _convention(protocol, option, _varies(groups))
    if table.optima:
        losses = [0.0] * len(rows)
        fits = _fit_optima(groups, sizes, table.grid_spacing, scatter_below, protocol, note)
    else:
        losses = rows["loss"].tolist()
        options = (convention, "loss", scatter_below, resamples, sizes, protocol)
        fits = fit_axes(groups, AXES, *options)
        if resamples and any(fit.decay for fit in fits.values()):
            note("resamples: is for axes fitted on their own; lr and weight_decay are not")
    document = exponents_of(
        results.metric, statuses(losses), fits, protocol, by, convention=convention
    )
    document = document.model_copy(update={"rows_left_out": results.left_out})
    return document, rows.rename(columns={"loss": "eval_loss"})


def _grouped(rows: pd.DataFrame, by: str | None) -> dict[str, pd.DataFrame]:
    return {str(name): part for name, part in rows.groupby(by)} if by else {"": rows}


def _varies(groups: Mapping[str, pd.DataFrame]) -> bool:
    """Whether weight decay varies within a group."""
    return any("weight_decay" in rows and held_decay(rows) is None for rows in groups.values())


def _to_base(
    rows: pd.DataFrame, protocol: DeclaredProtocol, table: TableOptions, by: str | None, note: Note
) -> pd.DataFrame:
    """The rows with base values in place of applied weight decays."""
    _convention(protocol, table.decay_convention, _varies(_grouped(rows, by)))
    found, section = to_base(rows, protocol), protocol.parameterization
    if not table.optima:
        refuse_another_rule(rows, _grouped(found, by).values(), protocol)
    note(
        f"weight_decay: base values are those of the table over (width / {section.base_width})^"
        f"{applied_exponent(protocol)}, by {section.weight_decay}"
    )
    return found


def _convention(
    protocol: DeclaredProtocol | None, option: DecayConvention | None, varies: bool
) -> DecayConvention | None:
    """The convention of the table's weight decays.

    Raises:
        InputError: they vary and nothing declares it.
    """
    declared = protocol.given_convention if protocol else option
    if varies and not declared:
        raise InputError(
            "weight_decay varies: say whether its convention is lr_coupled (torch: w -= lr * wd * "
            "w) or independent (w -= schedule * wd * w), here or in the protocol",
            remedy="decay_convention",
        )
    return protocol.parameterization.decay_convention if protocol else option


def _fit_optima(
    groups: Mapping[str, pd.DataFrame],
    sizes: Sequence[str],
    spacing: float | None,
    scatter_below: float | None,
    protocol: DeclaredProtocol | None,
    note: Note,
) -> dict[str, Group]:
    found = {}
    for name, rows in groups.items():
        axes: list[AxisName] = [
            a for a in AXES if a in rows and (a == "lr" or merged(rows[a]).nunique() > 1)
        ]
        where = f" of {name}" if name else ""
        if not axes:
            raise InputError(
                f"optima: the table holds none{where}; give a column {', '.join(AXES)}",
                setting="optima",
            )
        fits: dict[AxisName, Axis] = {}
        for axis in axes:
            step = spacing or grid_spacing(rows[axis], where)
            if spacing is None:
                note(f"grid spacing{where}: taken as {step:.3g} octaves, the least gap of {axis}")
            fit = fit_optima(rows, axis, step, scatter_below)
            fits[axis] = fit.warned(size_warnings(rows, sizes))
        found[name] = group_of(fits, None, rows, protocol)
    return found
