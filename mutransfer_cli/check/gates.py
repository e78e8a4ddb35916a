"""Which gates records, exponents and recipes allow, and their verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from mutransfer_cli.check.exponent import TOLERANCE as EXPONENT
from mutransfer_cli.check.exponent import exponent_gate
from mutransfer_cli.check.measure import Gate, GateName
from mutransfer_cli.check.spectrum import TOLERANCE as SPECTRUM
from mutransfer_cli.check.spectrum import hidden_at_end, spectrum_gate
from mutransfer_cli.check.transfer import (
    SHARE,
    Forecast,
    held_out_optimum,
    held_out_width,
    predicted,
    refuse_inside,
    transfer_gate,
    unpredicted,
)
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.fit.from_records import exponents_of_records
from mutransfer_cli.recipe.build import chosen_group
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.plan import AXES
from mutransfer_cli.spec.measurements import DiagnosticsRecord
from mutransfer_cli.spec.records import Records, TrialRecord
from mutransfer_cli.spec.tables import trial_frame

LEAST_WIDTHS = 4  # three to fit and one that is held out


@dataclass(frozen=True)
class Asked:
    """The user's questions about a source."""

    gates: frozenset[GateName] | None = None
    """Gates that are asked for; None: all that the source allows."""
    tolerances: Mapping[GateName, float] = field(default_factory=dict)
    """Tolerances other than the default; for `transfer` a share of the loss."""
    held_out: int | None = None
    """The width to forecast; None: the largest of the records."""
    answered: frozenset[GateName] = frozenset()
    """Gates that have their answer already."""

    def wants(self, gate: GateName, by_default: bool) -> bool:
        """Whether the gate is asked for, or is due `by_default` where none is named."""
        if gate in self.answered:
            return False
        return by_default if self.gates is None else gate in self.gates

    def without(self, gate: GateName) -> Asked:
        return replace(self, answered=self.answered | {gate})

    def tolerance(self, gate: GateName, default: float) -> float:
        return self.tolerances.get(gate, default)

    def refuse_beyond(self, allowed: Sequence[GateName], source: str) -> None:
        """Raise InputError if a gate is asked for that the source cannot answer."""
        for gate in sorted((self.gates or frozenset()) - self.answered):
            if gate not in allowed:
                raise InputError(
                    f"gates {gate}: not a question for {source}, which allows {', '.join(allowed)}",
                    setting="gates",
                )


@dataclass(frozen=True)
class Runs:
    """Runs as gates judge them, of a sweep or of a table of own results."""

    trials: pd.DataFrame
    """One row per run: width, hyperparameters, and `eval_loss`, which is NaN where it diverged."""
    protocol_hash: str | None
    """Their protocol; None where it is not known."""
    unit: str
    """Unit of the loss."""

    @classmethod
    def of(cls, records: Records) -> Runs:
        """The trials of a sweep that ran."""
        protocol = records.header.protocol
        return cls(trial_frame(records.trials), protocol.hash, protocol.loss_unit)

    @property
    def widths(self) -> list[int]:
        return sorted(int(width) for width in self.trials["width"].unique())


def gates_of_records(
    records: Records, measurements: Sequence[DiagnosticsRecord], asked: Asked
) -> list[Gate]:
    """Judge the exponent, transfer to the held-out width, and the spectrum with weight decay.

    Raises:
        InputError: a gate that records do not allow, or a width that cannot be held out.
    """
    asked.refuse_beyond(("exponent", "transfer", "spectrum"), "a sweep's records")
    widths = {trial.width for trial in records.trials}
    if not widths:
        raise InputError("the records hold no trials; nothing can be checked")
    gates = []
    if asked.wants("exponent", by_default=True):
        document, _ = exponents_of_records(records)
        tolerance = asked.tolerance("exponent", EXPONENT)
        gates.append(exponent_gate(chosen_group(document, None), tolerance))
    enough = len(widths) >= LEAST_WIDTHS or asked.held_out is not None
    if asked.wants("transfer", by_default=enough):
        gates.append(_transfer_of(Runs.of(records), asked))
    decays = records.header.protocol.parameterization.weight_decay != "none" and any(
        trial.weight_decay for trial in records.trials
    )
    if asked.wants("spectrum", by_default=decays and bool(measurements)):
        gates.append(_spectrum_of(records, measurements, asked))
    return gates


def gates_of_table(document: Exponents, runs: Runs, asked: Asked) -> tuple[list[Gate], list[str]]:
    """Judge the exponent and transfer to the held-out width, as far as a table allows it.

    Args:
        document: the fit of the table, without groups.
        runs: its rows.

    Returns:
        The gates, and a sentence about each gate that cannot be judged.

    Raises:
        InputError: a gate that a table does not allow, a width that cannot be held out, or a table
            of which nothing can be judged.
    """
    asked.refuse_beyond(("exponent", "transfer"), "a table of own results")
    gates, left = list[Gate](), list[str]()
    known = any(axis.expected_exponent is not None for axis in document.axes.values())
    if asked.wants("exponent", by_default=known):
        tolerance = asked.tolerance("exponent", EXPONENT)
        gates.append(exponent_gate(chosen_group(document, None), tolerance))
    elif asked.gates is None:
        left.append("exponent: not judged, as no protocol says what the rule expects; declare one")
    has_losses = "eval_loss" in runs.trials
    enough = len(runs.widths) >= LEAST_WIDTHS or asked.held_out is not None
    if asked.wants("transfer", by_default=enough and has_losses):
        if not has_losses:
            raise InputError("transfer: the table holds best values and no losses to compare")
        gates.append(_transfer_of(runs, asked))
    elif asked.gates is None:
        why = f"{LEAST_WIDTHS} widths or more" if has_losses else "losses"
        left.append(f"transfer: not judged, as it takes {why}")
    if not gates:
        raise InputError("; ".join(left), remedy=None if known else "protocol")
    if asked.gates is None:
        left.append(
            "static, coordinates and spectrum: not judged, as a table holds no recipe, "
            "model or measurements"
        )
    return gates, left


def _transfer_of(runs: Runs, asked: Asked) -> Gate:
    trials = runs.trials
    width = held_out_width(trials["width"].tolist(), asked.held_out)
    others = _others(trials)
    forecast = predicted(trials, others, width, runs.protocol_hash)
    share = asked.tolerance("transfer", SHARE)
    if not isinstance(forecast, Forecast):
        return unpredicted(forecast.sentence, width, runs.unit)
    optimum = held_out_optimum(trials, others, width)
    return transfer_gate(forecast, optimum, runs.unit, share)


def _others(trials: pd.DataFrame) -> list[str]:
    return [axis for axis in AXES if axis != "lr" and axis in trials and trials[axis].nunique() > 1]


def _spectrum_of(records: Records, measurements: Sequence[DiagnosticsRecord], asked: Asked) -> Gate:
    """Judge the end of the trials with the best base values of the widest width."""
    top = hidden_at_end(records, trials_like_best(records.trials), measurements)
    return spectrum_gate(top, asked.tolerance("spectrum", SPECTRUM))


def trials_like_best(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Finished trials with the base values of the best one at the widest width."""
    widest = max(trial.width for trial in trials)
    there = [t for t in trials if t.width == widest and t.eval_loss is not None]
    if not there:
        return []
    best = min(there, key=lambda t: (t.eval_loss or 0.0, t.seed))
    return [t for t in trials if t.axes == best.axes and t.eval_loss is not None]


def gates_of_exponents(
    document: Exponents, group: str | None, held_out: Runs | None, asked: Asked
) -> list[Gate]:
    """Judge the exponent and, given runs of a larger width, transfer to it.

    Raises:
        InputError: a gate that the file does not allow, or records of another protocol or of a
            fitted width.
    """
    allowed: tuple[GateName, ...] = ("exponent", "transfer") if held_out else ("exponent",)
    asked.refuse_beyond(allowed, "an exponents file" + ("" if held_out else " without records"))
    found = chosen_group(document, group)
    gates = []
    if asked.wants("exponent", by_default=True):
        gates.append(exponent_gate(found, asked.tolerance("exponent", EXPONENT)))
    if held_out is not None and asked.wants("transfer", by_default=True):
        axis = found.axes.get("lr")
        if axis is None:
            raise InputError("transfer: the exponents hold no fit of lr")
        width = _width_of(held_out, asked)
        if axis.line is None:
            gates.append(unpredicted(axis.sentence, width, document.loss_unit))
        else:
            forecast = Forecast.of(axis, width, document.protocol_hash)
            gates.append(_held_out(forecast, held_out, asked))
    return gates


def gates_of_recipe(
    recipe: Recipe, held_out: Runs | None, static: Gate | None, asked: Asked
) -> list[Gate]:
    """The static gate and, given runs of the recipe's width, transfer to it.

    Args:
        static: the gate, already judged; None where it is not asked for.

    Raises:
        InputError: a gate that a recipe does not allow, or records of another protocol or width.
    """
    allowed: tuple[GateName, ...] = ("static", "transfer") if held_out else ("static",)
    asked.refuse_beyond(allowed, "a recipe" + ("" if held_out else " without records"))
    gates = [static] if static is not None else []
    if held_out is not None and asked.wants("transfer", by_default=True):
        provenance = recipe.provenance
        width = _width_of(held_out, asked)
        if width != recipe.width:
            raise InputError(
                f"records: their width is {width}, and the recipe is for {recipe.width}; train the "
                "held-out sweep at the recipe's width",
                setting="records",
            )
        forecast = Forecast(
            "lr", width, recipe.base_lr.value, provenance.widths, provenance.protocol_hash
        )
        gates.append(_held_out(forecast, held_out, asked))
    return gates


def _width_of(runs: Runs, asked: Asked) -> int:
    """The width of held-out runs."""
    there = runs.widths
    if not there:
        raise InputError(
            "records: hold no trials; train the held-out width first", setting="records"
        )
    width = max(there) if asked.held_out is None else asked.held_out
    if width not in there:
        raise InputError(f"held_out {width}: the records have widths {there}", setting="held_out")
    return width


def _held_out(forecast: Forecast, runs: Runs, asked: Asked) -> Gate:
    if forecast.protocol_hash != runs.protocol_hash:
        raise InputError(
            f"records: their protocol is {runs.protocol_hash or 'not known'}, and that of the "
            f"source is {forecast.protocol_hash or 'not known'}; give records of the same protocol",
            setting="records",
        )
    if "eval_loss" not in runs.trials:
        raise InputError("records: hold best values and no losses to compare", setting="records")
    refuse_inside(forecast.width, forecast.widths)
    trials = runs.trials[runs.trials["width"] == forecast.width]
    optimum = held_out_optimum(trials, _others(trials), forecast.width)
    return transfer_gate(forecast, optimum, runs.unit, asked.tolerance("transfer", SHARE))
