"""Tables of every shape: each gives the right exponent, or is refused with words that settle it.

The truth is always an exponent of -1: at width w the best rate is 2^-7 * (w / 64)^-1.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

Run = Callable[..., Any]
WIDTHS = (64, 128, 256, 512)


def runs(seeds: int = 1, bend: float = 0.04) -> pd.DataFrame:
    """One row per run: width, lr, loss and seed."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        [(w, 2.0**x, seed) for w in WIDTHS for x in range(-12, -3) for seed in range(seeds)],
        columns=["width", "lr", "seed"],
    )
    doublings = np.log2(table["width"] / 64)
    away = np.log2(table["lr"]) + 7 + doublings
    noise = random.normal(0, 0.002, len(table))
    return table.assign(loss=3.2 - 0.12 * doublings + bend * away**2 + noise)


ONE = runs().drop(columns="seed")
TWO = runs(seeds=2)
HIGH = TWO["lr"] >= 2**-6


def random_search() -> pd.DataFrame:
    """Runs at rates drawn at random, all with one seed."""
    random = np.random.default_rng(1)
    drawn = pd.concat([runs()] * 6, ignore_index=True)
    drawn = drawn.assign(lr=2 ** random.uniform(-12, -4, len(drawn)))
    away = np.log2(drawn["lr"]) + 7 + np.log2(drawn["width"] / 64)
    return drawn.assign(loss=3 + 0.04 * away**2 + random.normal(0, 0.002, len(drawn)))


def csv(table: pd.DataFrame, separator: str = ",") -> str:
    return table.to_csv(index=False, sep=separator)


def log(table: pd.DataFrame, steps: int = 10) -> pd.DataFrame:
    """The runs as logs: the loss falls to its last value in steps of 100."""
    parts = [
        table.assign(step=100 * at, loss=table["loss"] + 0.2 * (steps - at))
        for at in range(1, steps + 1)
    ]
    return pd.concat(parts).sort_values(["width", "lr", "step"], kind="stable")


def attempts(newest_first: bool = False) -> pd.DataFrame:
    """Every run twice: a first attempt that crashed early, with the loss of another optimum."""
    shift = 0.1 * (np.log2(TWO["lr"]) + 5) ** 2
    crashed = TWO.assign(loss=4 + shift, created_at="2026-01-01 10:00:00")
    again = TWO.assign(created_at="2026-01-02 10:00:00")
    return pd.concat([again, crashed] if newest_first else [crashed, again])


def two_variants(name: str, values: tuple[object, object] = (4, 16)) -> pd.DataFrame:
    """Every run with a second value of a setting, whose optimum does not move with width."""
    other = ONE.assign(loss=3 + 0.04 * (np.log2(ONE["lr"]) + 7) ** 2)
    both = [
        pd.concat([table, pd.Series([value] * len(table), name=name)], axis=1)
        for table, value in zip((ONE, other), values, strict=True)
    ]
    return pd.concat(both).sort_values(["width", "lr"], kind="stable")


def nested(table: pd.DataFrame) -> str:
    rows = [
        {"config.width": int(w), "config.lr": lr, "config.seed": int(s), "summary.val_loss": loss}
        for w, lr, s, loss in table[["width", "lr", "seed", "loss"]].itertuples(index=False)
    ]
    return "\n".join(json.dumps(row) for row in rows)


def with_state(words: tuple[str, str], name: str = "State") -> pd.DataFrame:
    """Every third run of two ended otherwise, with a loss far too low."""
    broken = (np.arange(len(TWO)) % 3 == 2) & (TWO["seed"] == 0)
    losses = TWO["loss"].where(~broken, 1 + 0.3 * (np.log2(TWO["lr"]) + 10) ** 2)
    return TWO.assign(loss=losses, **{name: np.where(broken, words[1], words[0])})


@dataclass(frozen=True)
class Shape:
    """A table, the options given, and what is said: on stderr of a fit, or of a refusal."""

    name: str
    text: str
    options: tuple[str, ...] = ()
    refused: str = ""
    said: str = ""


LOG2 = np.log2(ONE["lr"]).astype(int)
ACCURACY = 1 - 0.1 * ONE["loss"]
GROWN = ONE["loss"] + 0.03 * np.log2(ONE["lr"]) * np.log2(ONE["width"])  # another optimum
HALF = np.where(ONE["lr"] < 2**-8, "adam", "muonh")
FITTED = [
    Shape("plain", csv(ONE)),
    Shape("seeds", csv(TWO)),
    Shape("an id as seed", csv(TWO.assign(seed=[f"r{i}" for i in range(len(TWO))]))),
    Shape("tabs", csv(TWO, "\t")),
    Shape("semicolons", csv(TWO, ";")),
    Shape("shuffled", csv(TWO.sample(frac=1, random_state=1))),
    Shape("a random search with one seed", csv(random_search())),
    Shape("powers", csv(ONE.assign(lr=[f"2^{x}" for x in LOG2]))),
    Shape("three digits", csv(TWO.assign(lr=[f"{x:.2e}" for x in TWO["lr"]]))),
    Shape("json lines", TWO.to_json(orient="records", lines=True)),
    Shape("nested names", nested(TWO), said="width=config.width"),
    Shape("State", csv(with_state(("finished", "running"))), said="12 rows left out: 12 running"),
    Shape("state", csv(with_state(("COMPLETE", "PRUNED"), "state")), said="12 pruned"),
    Shape("status", csv(with_state(("FINISHED", "FAILED"), "status")), said="12 failed"),
    Shape("Optuna's own words", csv(with_state(("TrialState.COMPLETE", "TrialState.RUNNING")))),
    Shape("SLURM's words", csv(with_state(("COMPLETED", "OUT_OF_MEMORY"))), said="out-of-memory"),
    Shape("Ray's words", csv(with_state(("TERMINATED", "ERROR"))), said="12 error"),
    Shape("early stopped", csv(with_state(("success", "Early stopped"))), said="12 early-stopped"),
    Shape("crash", csv(with_state(("keep", "crash"), "Status")), said="12 crash"),
    Shape(
        "a status under another name",
        csv(with_state(("ok", "killed"), "outcome")),
        ("--columns", "status=outcome"),
        said="12 killed",
    ),
    Shape("diverged", csv(TWO.assign(loss=TWO["loss"].where(~(TWO["lr"] > 2**-5))))),
    Shape("a log", csv(log(ONE)), ("--last", "step"), said="324 before the last step"),
    Shape("a log with seeds", csv(log(TWO)), ("--last", "step")),
    Shape("a log without seeds", csv(log(TWO).drop(columns="seed")), ("--last", "step")),
    Shape("a log by epoch", csv(log(ONE).rename(columns={"step": "epoch"})), ("--last", "epoch")),
    Shape(
        "a log with rows of training",
        csv(
            pd.concat(
                [log(ONE).assign(train_loss=""), log(ONE).assign(train_loss=3, loss="", step=1001)]
            )
        ),
        ("--last", "step"),
    ),
    Shape("attempts", csv(attempts()), ("--keep", "last:created_at"), said="72 before the last"),
    Shape("attempts, newest first", csv(attempts(True)), ("--keep", "last:created_at")),
    Shape("attempts in their order", csv(attempts()), ("--keep", "last:row")),
    Shape(
        "loss beside eval_loss",
        csv(ONE.assign(eval_loss=ONE["loss"], loss=GROWN)),
        said="the evaluation loss eval_loss, not loss",
    ),
    Shape("val/loss", csv(ONE.rename(columns={"loss": "val/loss"})), said="loss=val/loss"),
    Shape(
        "accuracy",
        csv(ONE.assign(val_acc=ACCURACY).drop(columns="loss")),
        ("--metric", "val_acc", "--maximize"),
        said="minus val_acc",
    ),
    Shape(
        "perplexity",
        csv(ONE.assign(val_ppl=np.exp(ONE["loss"])).drop(columns="loss")),
        said="the logarithm of the perplexity val_ppl",
    ),
    Shape("an accuracy beside a loss", csv(ONE.assign(acc=ACCURACY.round(2)))),
    Shape("depth that is constant", csv(ONE.assign(n_layer=4)), said="depth=n_layer"),
    Shape("depth with an empty cell", csv(ONE.assign(depth=["", *["4"] * 35]))),
    Shape("one number in three forms", csv(ONE.assign(max_iters=["1e4", "10000", "10_000"] * 12))),
    Shape("tokens that jitter", csv(ONE.assign(tokens=10_000_000 + np.arange(36) % 7 * 900))),
    Shape(
        "heads that move with width",
        csv(ONE.assign(n_head=ONE["width"] // 16)),
        said="heads changes together with width",
    ),
    Shape(
        "something that moves with width",
        csv(ONE.assign(d_ff=4 * ONE["width"])),
        said="different from width to width: d_ff",
    ),
    Shape(
        "a size that moves with width",
        csv(ONE.assign(blocks=ONE["width"] // 16)),
        ("--size", "blocks"),
        said="blocks changes together with width",
    ),
    Shape("depth by group", csv(two_variants("num_layers")), ("--by", "num_layers")),
    Shape("depth by its other name", csv(two_variants("num_layers")), ("--by", "depth")),
    Shape("where depth is 4", csv(two_variants("num_layers")), ("--where", "depth=4")),
    Shape(
        "where two are given",
        csv(two_variants("optimizer", ("muonh", "adam")).assign(depth=4)),
        ("--where", "optimizer=muonh and depth=4"),
        said="36 rows left out: 36 not in where",
    ),
    Shape(
        "two groups of settings",
        csv(two_variants("optimizer", ("muonh", "adam")).assign(depth=4)),
        ("--by", "optimizer", "--by", "depth"),
    ),
    Shape(
        "rows without width",
        csv(pd.concat([ONE.astype(object), pd.DataFrame({"loss": [3.0] * 706})])),
        said="706 rows left out: 706 without width",
    ),
    Shape(
        "logarithms",
        csv(ONE.assign(log2_lr=LOG2).drop(columns="lr")),
        ("--columns", "lr=2^log2_lr"),
    ),
    Shape(
        "negative logarithms",
        csv(ONE.assign(x=-LOG2).drop(columns="lr")),
        ("--columns", "lr=2^-x"),
    ),
    Shape(
        "pasted twice, with seeds",
        csv(pd.concat([TWO, TWO])),
        said="72 rows left out: 72 repeated exactly; independent runs differ",
    ),
    Shape("pasted twice, without seeds", csv(pd.concat([ONE, ONE])), said="equal losses of a cell"),
    Shape("names, times and machines", csv(TWO.assign(Name="x", Created=TWO.index, host="a"))),
    Shape("a rate that was logged", csv(ONE.assign(**{"train/lr": 1e-9}))),
    Shape("the rate's logarithm beside it", csv(ONE.assign(log2_lr=LOG2))),
    Shape("repetitions with a number", csv(TWO.rename(columns={"seed": "random_seed"}))),
]
REFUSED = [
    Shape(
        "an unknown status",
        csv(with_state(("finished", "CA"))),
        refused="State: expected a status such as finished, running, failed or diverged, found",
    ),
    Shape("an empty status", csv(with_state(("finished", ""))), refused="State: expected a status"),
    Shape(
        "nothing finished",
        csv(ONE.assign(state="running")),
        refused="no row has a status of a run that finished (36 running)",
    ),
    Shape(
        "a loss of 0",
        csv(ONE.assign(loss=[0.0, *ONE["loss"][1:]])),
        refused="a loss of exactly 0 beside losses of about",
    ),
    Shape("a log", csv(log(ONE)), refused="take the last of each run (--last step)"),
    Shape("a log with seeds", csv(log(TWO)), refused="(--last step)"),
    Shape(
        "a log by training_iteration",
        csv(log(ONE).rename(columns={"step": "training_iteration"})),
        refused="(--last training_iteration)",
    ),
    Shape(
        "runs that stopped early",
        csv(TWO.assign(step=np.where(HIGH, 100, 1000), loss=TWO["loss"] + 3 * HIGH)),
        refused="step differs at width 64 (100 and 1000): runs that ended early do not belong",
    ),
    Shape("last of nothing", csv(ONE), ("--last", "step"), refused="has no column 'step'"),
    Shape(
        "attempts", csv(attempts()), refused="the same run (width 64, lr 0.000244140625, seed 0)"
    ),
    Shape("attempts, without order", csv(attempts()), ("--keep", "last"), refused="last:COLUMN"),
    Shape(
        "attempts at one time",
        csv(attempts().assign(created_at="2026-01-01")),
        ("--keep", "last:created_at"),
        refused="and the same created_at; remove one",
    ),
    Shape(
        "attempts, ordered by words",
        csv(attempts().assign(created_at="yesterday")),
        ("--keep", "last:created_at"),
        refused="expected a number or a time such as 2026-01-31 12:00:00",
    ),
    Shape(
        "one run at a rate and at that rate rounded",
        csv(pd.concat([TWO, TWO.assign(lr=[f"{x:.2e}" for x in TWO["lr"]], loss=TWO["loss"] + 1)])),
        refused="the same run (width 64",
    ),
    Shape(
        "two evaluation losses",
        csv(ONE.assign(val_loss=ONE["loss"], test_loss=GROWN)),
        refused="val_loss and test_loss are evaluation losses; name the one to fit",
    ),
    Shape(
        "an accuracy alone",
        csv(ONE.assign(val_acc=ACCURACY).drop(columns="loss")),
        refused="name it and say so (--metric val_acc and --maximize)",
    ),
    Shape(
        "an accuracy taken as loss",
        csv(ONE.assign(accuracy=ACCURACY)),
        ("--metric", "accuracy"),
        refused="accuracy is a score of which higher is better",
    ),
    Shape(
        "a score under a name of its own",
        csv(ONE.assign(quality=ACCURACY)),
        ("--metric", "quality"),
        refused="is higher better? (--maximize)",
    ),
    Shape(
        "a loss to be maximized",
        csv(ONE),
        ("--maximize",),
        refused="--maximize: loss is a loss, of which lower is better",
    ),
    Shape(
        "something worse above to be maximized",
        csv(ONE.rename(columns={"loss": "quality"})),
        ("--metric", "quality", "--maximize"),
        refused="is lower better?",
    ),
    Shape(
        "a perplexity below 1",
        csv(ONE.assign(ppl=0.5)),
        ("--metric", "ppl"),
        refused="expected a perplexity of 1 or more, found 0.5",
    ),
    Shape(
        "two depths",
        csv(two_variants("num_layers")),
        refused='(--by num_layers or --where "num_layers=16")',
    ),
    Shape("two lengths", csv(two_variants("max_steps", (100, 2000))), refused="max_steps differs"),
    Shape(
        "two optimizers",
        csv(two_variants("optimizer", ("muonh", "adam"))),
        refused='(--by optimizer or --where "optimizer=muonh" or --columns seed=optimizer)',
    ),
    Shape("two settings in numbers", csv(two_variants("beta")), refused="with beta 4 and 16"),
    Shape(
        "another optimizer at high rates",
        csv(ONE.assign(optimizer=HALF)),
        refused="optimizer differs at width 64 (adam and muonh)",
    ),
    Shape(
        "a setting in numbers that follows high rates",
        csv(ONE.assign(blocks=np.where(ONE["lr"] < 2**-8, 4, 8))),
        refused="blocks differs at width 64 (4 and 8): fit each value on its own",
    ),
    Shape(
        "where nothing fits",
        csv(two_variants("optimizer", ("muonh", "adam"))),
        ("--where", "optimizer=sgd"),
        refused="optimizer holds muonh, adam",
    ),
    Shape(
        "where code is written",
        csv(ONE),
        ("--where", "@__import__('os').system('true')"),
        refused="has no column '@__import__'",
    ),
    Shape(
        "where a parenthesis is missing",
        csv(ONE),
        ("--where", "(width=64"),
        refused="--where: the end of '(width=64': expected )",
    ),
    Shape(
        "logarithms of rates",
        csv(ONE.assign(lr=LOG2)),
        refused="(--columns lr=2^lr)",
    ),
    Shape(
        "negative logarithms of rates",
        csv(ONE.assign(lr=-LOG2)),
        refused="which looks like a logarithm; write the rate, such as 2^-12",
    ),
    Shape(
        "a logarithm by its name",
        csv(ONE.assign(log10_lr=0.1)),
        ("--columns", "lr=log10_lr"),
        refused="looks like a logarithm",
    ),
    Shape(
        "two rates",
        csv(ONE.assign(**{"config/lr": ONE["lr"] * 2})),
        refused="lr could be 'lr' (0.000244140625) or 'config/lr' (0.00048828125)",
    ),
    Shape(
        "decimal commas",
        csv(ONE.assign(lr=[f"{x:.9f}".replace(".", ",") for x in ONE["lr"]]), ";"),
        refused="(a decimal comma? write 0.000244141)",
    ),
    Shape("1x", csv(ONE.assign(width=[f"{w}x" for w in ONE["width"]])), refused="number alone: 64"),
    Shape("64 (small)", csv(ONE.replace(64, "64 (small)")), refused="write the number alone: 64)"),
    Shape(
        "dashes",
        csv(ONE.assign(loss=["\u2014", *ONE["loss"][1:]])),
        refused="or 2^-9, found '\u2014' (where there is no value, leave the cell empty)",
    ),
    Shape("no width at all", csv(ONE.assign(width="")), refused="width is empty in every row"),
    Shape(
        "a size that is not there", csv(ONE), ("--size", "blocks"), refused="has no column 'blocks'"
    ),
]


def intervals(document: dict[str, Any]) -> list[dict[str, float] | None]:
    groups = document.get("groups") or {"": document}
    return [
        group["axes"]["lr"]["exponent"]
        for name, group in groups.items()
        if not name.startswith(("16", "adam"))  # the other variant, whose optimum stands still
    ]


@pytest.mark.parametrize("shape", FITTED, ids=lambda shape: shape.name)
def test_the_right_exponent(run: Run, tmp_path: Path, shape: Shape) -> None:
    path = tmp_path / "table"
    path.write_text(shape.text)
    result = run("fit-exponents", path, *shape.options, "--json")
    assert result.exit_code == 0, result.stderr
    (exponent,) = intervals(json.loads(result.stdout))
    assert exponent is not None
    assert exponent["low"] < -1 < exponent["high"]
    assert exponent["high"] - exponent["low"] < 0.3
    assert shape.said in " ".join(result.stderr.split())


@pytest.mark.parametrize("shape", REFUSED, ids=lambda shape: shape.name)
def test_refused_with_what_settles_it(run: Run, tmp_path: Path, shape: Shape) -> None:
    path = tmp_path / "table"
    path.write_text(shape.text)
    result = run("fit-exponents", path, *shape.options, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert shape.refused in result.stderr


def test_there_are_many_shapes() -> None:
    assert len(FITTED) + len(REFUSED) >= 60
