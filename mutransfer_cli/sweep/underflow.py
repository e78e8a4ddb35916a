"""Warns if Adam's epsilon hides the gradients, as measured in the best trial of each width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutransfer_cli.rules.choices import ROLES, Role
from mutransfer_cli.spec.measurements import DiagnosticsRecord, by_role, read_diagnostics
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.spec.records import TrialRecord
from mutransfer_cli.sweep.prepare import Sweep

# smallest harmless ratio of a gradient's RMS to eps. Adam divides by sqrt(v_hat) + eps, where v_hat
# is corrected for its start at zero: below this ratio eps makes updates smaller by a tenth or more
ENOUGH = 10.0


@dataclass(frozen=True)
class Underflow:
    """A role at a width whose gradients are not far above eps; medians over its parameters.

    Attributes:
        gradient: RMS at the end of the best trial.
        eps: the eps that Adam adds.
        per_layer: the eps that it would add under `epsilon: per_layer`.
    """

    role: Role
    width: int
    gradient: float
    eps: float
    per_layer: float


def underflow_warnings(sweep: Sweep, recorded: Mapping[str, TrialRecord], path: Path) -> list[str]:
    """One sentence for each role whose gradients eps hides, with the widths and a fix.

    Args:
        recorded: records by trial.
        path: file of the diagnostics.
    """
    best = best_trials(sweep, recorded)
    measured = read_diagnostics(path, list(best))
    last = {record.trial: record for record in measured if record.gradient_rms}
    found = [u for trial, m in last.items() for u in underflows(sweep, best[trial], m)]
    by_roles = ([u for u in found if u.role == role] for role in ROLES)
    return [sentence(sweep.protocol, of_role) for of_role in by_roles if of_role]


def best_trials(sweep: Sweep, recorded: Mapping[str, TrialRecord]) -> dict[str, TrialRecord]:
    """The record with the lowest eval loss of each width, by trial; widths ascend."""
    best = {}
    for _, trials in sorted(sweep.trials.items()):
        records = [recorded[trial.id] for trial in trials if trial.id in recorded]
        losses = [(r.eval_loss, r.trial) for r in records if r.eval_loss is not None]
        if losses:
            trial = min(losses)[1]
            best[trial] = recorded[trial]
    return best


def underflows(sweep: Sweep, record: TrialRecord, measured: DiagnosticsRecord) -> list[Underflow]:
    """The roles of one trial whose gradients are not far above eps."""
    roles = {p.name: p.role for p in sweep.base_plan}
    eps = epsilons(sweep, sweep.protocol, record)
    if not eps:
        return []
    gradients = by_role({name: measured.gradient_rms[name] for name in eps}, roles)
    now, per_layer = (
        by_role(values, roles)
        for values in (eps, epsilons(sweep, with_per_layer(sweep.protocol), record))
    )
    return [
        Underflow(role, record.width, gradient, now[role], per_layer[role])
        for role, gradient in gradients.items()
        if gradient < ENOUGH * now[role]
    ]


def epsilons(sweep: Sweep, protocol: Protocol, record: TrialRecord) -> dict[str, float | None]:
    """The eps of each parameter that has one, by name."""
    shapes = sweep.shapes.get(record.width)
    plan = protocol.plan(sweep.base_plan, record.width, record.axes, shapes)
    return {p.name: p.eps for p in plan if p.eps is not None}


def with_per_layer(protocol: Protocol) -> Protocol:
    rule = protocol.parameterization.model_copy(update={"epsilon": "per_layer"})
    return protocol.model_copy(update={"parameterization": rule})


def sentence(protocol: Protocol, found: Sequence[Underflow]) -> str:
    """The warning about one role, given its underflows by ascending width."""
    widest = found[-1]
    widths = f"width {widest.width}"
    if len(found) > 1:
        widths = f"widths {found[0].width} to {widest.width}"
    return (
        f"{widest.role}, {widths}: gradients of RMS {widest.gradient:.1e} (width {widest.width}) "
        f"are less than {ENOUGH:g} times eps, {widest.eps:.1e}, which makes the updates smaller "
        f"than the rule says; {remedy(protocol, found)}"
    )


def remedy(protocol: Protocol, found: Sequence[Underflow]) -> str:
    optimizer = protocol.optimizer
    base_eps = getattr(optimizer, "eps", None)
    assert base_eps is not None, "an optimizer without eps has no underflow"
    if all(u.gradient >= ENOUGH * u.per_layer for u in found):
        change = "set parameterization.epsilon: per_layer"
    else:
        most = min(base_eps * u.gradient / u.eps for u in found) / ENOUGH
        change = f"set optimizer.eps to at most {most:.1e}"
    if optimizer.name == "muon":
        return change
    return f"{change}, or choose optimizer adam_atan2, which has no eps"
