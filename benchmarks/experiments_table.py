"""Writes recipes/README.md: the papers' reports beside the measurements made here."""

from __future__ import annotations

from benchmarks.experiments import Experiment, Experiments, Paper, measured
from benchmarks.experiments_judge import WITHIN, WITHIN_LOSS, WITHIN_SPECTRUM, judged

HEAD = """# Recipes

`quickstart` and `quickstart-standard` are explained in the README of the project, and
`hf-llama-tiny` in `mutransfer docs models`; `own_models` holds examples of models and data of your
own, explained in `mutransfer docs data`. The others are the experiments of three papers, one file
per paper and one row per experiment, each sized for one GPU with a variant for two CPU cores:

```sh
mutransfer sweep-proxy everett/adam-full-mup                  # on a GPU
mutransfer sweep-proxy everett/adam-full-mup --variant cpu    # a few minutes
mutransfer fit-exponents runs/everett/adam-full-mup-cpu
```

The tables show the `cpu` variants, measured here; their records are in `measured/`, one archive per
paper. Agreement is `yes` if the whole 95% interval is within {within} of the reported exponent
({spectrum} for a singular value; below 0 for a lower loss; within {loss} nats for the same loss),
`no` if it is outside, and otherwise `not resolved`: at this scale the interval is too wide to tell.
A report is taken from the paper's `text` or `figure`, is `derived` from its theory, or is
`second-hand`, that is reported by others rather than by the paper; `ours` is our own expectation
where no report is known. Times on one of two cores were taken beside other work and are upper
bounds. `make experiments` trains the experiments that are not measured yet and writes this file.
"""


def table(listed: Experiments) -> str:
    return "\n".join(
        [
            HEAD.format(within=WITHIN, spectrum=WITHIN_SPECTRUM, loss=WITHIN_LOSS),
            *(section(paper) for paper in listed.papers),
        ]
    )


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
        why = "not run" if row.small else "not run: too large for the small variant"
        return f"| `{row.spec}` | {reported} | {why} | | |"
    said, agreement = judged(row.claim, found)
    run = found.run
    cost = f"{len(found.records.trials)}, {run.seconds:.0f} s on {run.machine}, {run.date}"
    return f"| `{row.spec}` | {reported} | {said} | {agreement} | {cost} |"
