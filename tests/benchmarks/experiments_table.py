"""recipes/README.md: what the papers report against what the records here say."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from scipy import stats

from mutransfer_cli.emit.exponents import exponents_of
from mutransfer_cli.files.exponents import Exponents
from mutransfer_cli.files.frames import trial_frame
from mutransfer_cli.files.records import Records
from mutransfer_cli.files.sources import read_records
from mutransfer_cli.fit.axes import fit_axes
from mutransfer_cli.rules.plan import AXES
from tests.benchmarks.experiments import Claim, Experiment, Experiments, Measured, Paper, measured

WITHIN = 0.25  # of an exponent: what is taken for equal
LEVEL = 0.95

HEAD = """# Recipes

`quickstart`, `quickstart-standard` and `hf-llama-tiny` are explained in the README of the project.
The others are the experiments of three papers, each at a size for one GPU, with a variant for two
CPU cores:

```sh
mutransfer sweep-proxy everett/adam-full-mup                  # on a GPU
mutransfer sweep-proxy everett/adam-full-mup --variant cpu    # some minutes
mutransfer fit-exponents runs/everett/adam-full-mup-cpu
```

The rows below are the `cpu` variants, measured here; their records lie in `measured/`. Agreement
is `yes` where the whole 95 % interval lies within {within} of the reported exponent (for a
difference of losses: on its side of 0), `no` where it lies outside, else `not resolved`: at this
scale the interval is too wide to say. What is reported was read in the paper's `text` or `figure`,
is `derived` from its theory, or `second-hand`, told by others, and then no statement of the paper.
`make experiments` trains what is not measured yet and writes this file.
"""


@dataclass(frozen=True)
class Found:
    """A number with its interval; None where the records give none."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def table(listed: Experiments) -> str:
    return "\n".join([HEAD.format(within=WITHIN), *(section(paper) for paper in listed.papers)])


def section(paper: Paper) -> str:
    lines = [
        f"## {paper.title}\n",
        "| spec | reported | measured | agreement | trials, time |",
        "|---|---|---|---|---|",
        *(line(row) for row in paper.rows),
    ]
    return "\n".join(lines) + "\n"


def line(row: Experiment) -> str:
    reported = f"{row.reported} ({row.mark})"
    found = measured(row.spec)
    if found is None:
        return f"| `{row.spec}` | {reported} | not run | | |"
    records = records_of(found)
    said, agreement = judged(row.claim, records)
    run = found.run
    cost = f"{len(records.trials)}, {run.seconds:.0f} s on {run.machine}, {run.date}"
    return f"| `{row.spec}` | {reported} | {said} | {agreement} | {cost} |"


def records_of(found: Measured) -> Records:
    records = read_records(found.records)
    assert records is not None, "measured records are whole"
    return records


def judged(claim: Claim, records: Records) -> tuple[str, str]:
    """What was measured, and whether it agrees."""
    if claim.lower_loss_than is not None:
        other = measured(claim.lower_loss_than)
        if other is None:
            return f"`{claim.lower_loss_than}` was not run", "not resolved"
        difference = loss_difference(records, records_of(other))
        said = f"loss {difference} nats against `{claim.lower_loss_than}`"
        return (
            said,
            "yes" if difference.high < 0 else "no" if difference.low > 0 else "not resolved",
        )
    axis = exponents(records).axes["lr"]
    if axis.exponent is None:
        return axis.sentence.replace("\n", " "), "not resolved"
    x = axis.exponent
    found = Found(x.value, x.low, x.high)
    expected = 0.0 if claim.exponent is None else claim.exponent
    inside = expected - WITHIN <= found.low and found.high <= expected + WITHIN
    outside = found.high < expected - WITHIN or expected + WITHIN < found.low
    if claim.drifts:
        inside, outside = outside, inside
    return f"exponent {found}", verdict(inside, outside)


def verdict(agrees: bool, contradicts: bool) -> str:
    return "yes" if agrees else "no" if contradicts else "not resolved"


def exponents(records: Records) -> Exponents:
    protocol = records.header.protocol
    convention = protocol.parameterization.decay_convention
    fits = fit_axes({"": trial_frame(records.trials)}, AXES, convention, "eval_loss")
    return exponents_of(
        "eval_loss",
        {"ok": len(records.trials)},
        fits,
        protocol,
        base_plan=records.header.base_plan,
        convention=convention,
    )


def loss_difference(one: Records, other: Records) -> Found:
    """Best loss of the one minus that of the other, over seeds and the wider half of the widths.

    Trials of one seed read the same data, so that differences are paired.
    """
    best = [best_losses(records) for records in (one, other)]
    both = best[0].index.intersection(best[1].index)
    widths = sorted({width for width, _ in both})
    wider = set(widths[len(widths) // 2 :])
    kept = [key for key in both if key[0] in wider]
    differences = (best[0].loc[kept] - best[1].loc[kept]).to_numpy()
    mean, error = float(differences.mean()), float(stats.sem(differences))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1)) * error
    return Found(mean, mean - half, mean + half)


def best_losses(records: Records) -> pd.Series[float]:
    """By width and seed, of all rates."""
    frame = trial_frame(records.trials)
    losses: pd.Series[float] = frame.groupby(["width", "seed"])["eval_loss"].min()
    return losses
