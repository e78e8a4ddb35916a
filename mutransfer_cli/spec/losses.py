"""The column of a table that is fitted: which one, whether lower is better, and on which scale."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.tables import Table
from mutransfer_cli.spec.values import all_empty, is_empty, plain, words
from mutransfer_cli.strict import nearest

LOGS = ("lr", "learning_rate", "rate")  # ends of names that may be logarithms of rates
EVALUATION = words(
    "eval_loss val_loss valid_loss validation_loss test_loss dev_loss loss_eval loss_val "
    "loss_validation loss_test"
)
TRAINING = words("train_loss training_loss loss_train")
USUAL = EVALUATION | TRAINING | {"loss"}
RECORDED = words("metrics metric summary result results logs log final")
PERPLEXITY = re.compile(r"(?:^|_)(?:ppl|perplexity)(?:_|$)")
LOWER = re.compile(
    r"(?:^|_)(?:loss|losses|nll|ce|xent|cross_entropy|error|err|mse|rmse|mae|ppl|perplexity|bpb|bpc|wer|cer)"
    r"(?:_|$)"
)
HIGHER = re.compile(
    r"(?:^|_)(?:acc|accuracy|acc1|acc5|top_?1|top_?5|f1|auc|auroc|precision|recall|bleu|rouge\w*|"
    r"reward|return|score|r2|psnr|ssim|map|miou|iou|exact_match|em|win_rate|pass_?1)(?:_|$)"
)
# share of a width's range by which both ends lie below the best of a bowl upside down
ENDS_BELOW = 0.1


@dataclass(frozen=True)
class Loss:
    """How the loss is read from a column."""

    column: str
    sign: float = 1.0
    """-1 where higher is better."""
    logarithm: bool = False
    """True for a perplexity."""
    said: str | None = None
    """What the user should know about the choice."""

    def of(self, table: Table, found: pd.Series[float]) -> pd.Series[float]:
        """The losses of a column, with NaN where there is no finite one.

        Raises:
            InputError: a perplexity below 1.
        """
        found = found.where(np.isfinite(found))
        if not self.logarithm:
            return self.sign * found if self.sign < 0 else found
        wrong = (found < 1).to_numpy()
        if wrong.any():
            place = int(wrong.argmax())
            raise InputError(
                f"{table.place(place)}: {self.column}: expected a perplexity of 1 or more, found "
                f"{found.tolist()[place]:g}; correct that value, or give the loss"
            )
        return pd.Series(np.log(found.to_numpy()), index=found.index)


def plain_name(column: str) -> str:
    """A name of a result without the prefixes of loggers: `metrics.val/loss` is val_loss."""
    name = re.sub(r"[^a-z0-9]+", "_", column.strip().lower()).strip("_")
    split = name.split("_")
    while len(split) > 1 and split[0] in RECORDED:
        split = split[1:]
    return "_".join(split)


def higher_is_better(column: str) -> bool:
    """Whether a name is that of an accuracy or another score."""
    name = plain_name(column)
    return HIGHER.search(name) is not None and LOWER.search(name) is None


def loss_column(table: Table, named: str | None, maximize: bool, is_metric: bool = False) -> Loss:
    """The column to fit.

    Without a name the evaluation loss is taken, otherwise `loss`, otherwise the training loss,
    otherwise a perplexity, by its logarithm.

    Args:
        is_metric: the name was given as the metric, not among the columns.

    Raises:
        InputError: no loss, two evaluation losses, or a score of which higher is better where this
            was not said.
    """
    there = list(dict.fromkeys(str(column) for column in table.cells.columns))
    if named is not None and named not in there:
        raise InputError(
            f"{table.where}: has no column {named!r} for loss; name yours"
            f"{'' if is_metric else ' by loss=COLUMN'}{nearest(named, there)}",
            remedy="metric" if is_metric else "columns",
        )
    column, said = (named, None) if named is not None else _usual(table, there)
    if PERPLEXITY.search(plain_name(column)):
        if maximize:
            raise _lower_is_better(column)
        return Loss(column, logarithm=True, said=f"loss: the logarithm of the perplexity {column}")
    if maximize:
        if LOWER.search(plain_name(column)):
            raise _lower_is_better(column)
        return Loss(column, sign=-1.0, said=f"loss: minus {column}, of which higher is better")
    if higher_is_better(column):
        raise InputError(
            f"{table.where}: {column} is a score of which higher is better; say so, or name a loss",
            remedy="maximize",
        )
    return Loss(column, said=said)


def _lower_is_better(column: str) -> InputError:
    return InputError(f"maximize: {column} is a loss, of which lower is better", setting="maximize")


def train_column(table: Table, loss: str, named: str | None) -> str | None:
    """The training loss beside another loss; None if it is missing where there is a loss."""
    there = [str(column) for column in table.cells.columns]
    found = [named] if named else [one for one in there if plain_name(one) in TRAINING]
    if not found or found[0] == loss or there.count(found[0]) > 1:
        return None if named is None or named == loss else named
    column = found[0]
    if named is None and column in there:
        empty = table.cells[column].map(is_empty) & ~table.cells[loss].map(is_empty)
        if empty.any():
            return None
    return column


def _usual(table: Table, there: Sequence[str]) -> tuple[str, str | None]:
    """The column that is the loss by its name, and what to say about it."""

    def of(names: frozenset[str]) -> list[str]:
        found = [one for one in there if plain_name(one) in names]
        return [one for one in found if not all_empty(table, one)]

    evaluation, simple = of(EVALUATION), [one for one in there if plain_name(one) == "loss"]
    training = of(TRAINING)
    if len(evaluation) > 1:
        first = plain(table.cells[evaluation[0]])
        if any(not first.equals(plain(table.cells[one])) for one in evaluation[1:]):
            raise InputError(
                f"{table.where}: {' and '.join(evaluation)} are evaluation losses; name the one "
                "to fit",
                remedy=f"metric {evaluation[0]}",
            )
    if evaluation:
        beside = [*simple, *training]
        also = f", not {' or '.join(beside)}" if beside else ""
        return evaluation[0], f"loss: the evaluation loss {evaluation[0]}{also}" if beside else None
    if len(simple) > 1 and "loss" not in simple:
        raise InputError(
            f"{table.where}: {' and '.join(simple)} are losses; name the one to fit",
            remedy=f"metric {simple[0]}",
        )
    if simple or training:
        return ("loss" if "loss" in simple else [*simple, *training][0]), None
    perplexities = [one for one in there if PERPLEXITY.search(plain_name(one))]
    if len(perplexities) == 1:
        return perplexities[0], None
    if "value" in there and any(one.startswith("params_") for one in there):
        return "value", "loss: value, the objective of the study"
    scores = [one for one in there if higher_is_better(one)]
    if scores:
        raise InputError(
            f"{table.where}: has no column 'loss'; {scores[0]} is a score of which higher is "
            "better: name it and say so",
            remedy=(f"metric {scores[0]}", "maximize"),
        )
    raise InputError(
        f"{table.where}: has no column 'loss'; name yours by loss=COLUMN{nearest('loss', there)}",
        remedy="columns",
    )


def refuse_zero(loss: pd.Series[float], places: Sequence[str], column: str) -> None:
    """Refuse a loss of exactly 0 beside losses far from it, as a crashed run leaves it.

    Args:
        loss: indexed by (source, line); NaN where a run diverged.
        places: what comes before the line in a message, per source.
    """
    zero = (loss == 0).to_numpy()
    others = loss[(loss != 0) & loss.notna()]
    if not zero.any() or others.empty or float(others.min()) < 0:
        return
    typical = float(others.median())
    if float(others.min()) > 0.01 * typical:
        source, line = loss.index[int(zero.argmax())]
        more = int(zero.sum()) - 1
        raise InputError(
            f"{places[source]} {line}{f' and {more} more' if more else ''}: {column}: found a loss "
            f"of exactly 0 beside losses of about {typical:.3g}, as a run that crashed leaves it; "
            "leave such rows out, give them the status failed, or empty the cell",
            remedy=f'where "{column} != 0"',
        )


def refuse_upside_down(frame: pd.DataFrame, column: str, maximize: bool) -> None:
    """Refuse a metric whose worst value lies between the rates at most widths."""
    widths = upside = 0
    cells = frame.dropna(subset=["loss"]).groupby(["width", "lr"])["loss"].mean()
    for _, one in cells.groupby(level=0):
        if len(one) < 5:
            continue
        widths += 1
        values = one.to_numpy()
        top, spread = int(values.argmax()), float(np.ptp(values))
        steps = np.sign(np.diff(values)) * np.where(np.arange(len(values) - 1) < top, 1, -1)
        inside = 0 < top < len(values) - 1
        low = max(values[0], values[-1]) < values[top] - ENDS_BELOW * spread
        upside += bool(inside and low and (steps > 0).mean() >= 0.8)
    if widths >= 2 and upside > widths / 2:
        other = "lower" if maximize else "higher"
        raise InputError(
            f"{column}: at {upside} of {widths} widths it is best at both ends of the rates and "
            f"worst between them; is {other} better?"
            + (" then it is a loss, and nothing is to be maximized" if maximize else ""),
            remedy=None if maximize else "maximize",
        )
