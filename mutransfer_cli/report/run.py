"""What a page is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mutransfer_cli.check.measure import OF_EXPONENTS, Check, Verdict, verdict_of
from mutransfer_cli.fit.cells import cell_means, profile
from mutransfer_cli.fit.exponents import Axis, Exponents
from mutransfer_cli.rules.plan import AXES, AxisName
from mutransfer_cli.spec.measurements import CurveRecord, DiagnosticsRecord
from mutransfer_cli.spec.records import Records

TOLERANCE = OF_EXPONENTS
SIGNS: dict[Verdict, str] = {"pass": "✓ pass", "fail": "✗ fail", "inconclusive": "? inconclusive"}
WORDS = {
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "lr * weight_decay": "product of the two",
}


@dataclass(frozen=True)
class Run:
    """
    Attributes:
        name: of the folder.
        document: the fit, as `fit-exponents` writes it.
        trials: what was fitted: one row a trial that ran; `eval_loss` is NaN where it diverged.
        curves, diagnostics: what lies beside the records; may be empty.
        warnings: beside those of the fit.
        check: what `mutransfer check` said, where it lies in the folder.
    """

    name: str
    records: Records
    document: Exponents
    trials: pd.DataFrame
    curves: Sequence[CurveRecord]
    diagnostics: Sequence[DiagnosticsRecord]
    warnings: Sequence[str]
    check: Check | None = None

    @property
    def unit(self) -> str:
        return self.document.loss_unit

    @property
    def widths(self) -> list[int]:
        return sorted(int(width) for width in self.trials["width"].unique())

    def along(self, axis: AxisName) -> pd.DataFrame:
        """Mean losses over `axis`, at the best of the other axes: columns width, axis, eval_loss,
        which is inf where a seed diverged. Values without logarithm are left out."""
        positive = self.trials[self.trials[axis] > 0]
        others = [name for name in AXES if name != axis]
        return cell_means(profile(positive, [axis], others, "eval_loss"), [axis], "eval_loss")


def words_of(axis: str) -> str:
    """The name of an axis, or of the product of two, in a sentence."""
    return WORDS.get(axis, f"factor {axis}")


def verdict_on(axis: Axis) -> Verdict | None:
    """Of the exponent's interval against the rule's; None where the rule says nothing of it.

    Without an interval nothing is decided.
    """
    if axis.expected_exponent is None:
        return None
    if axis.exponent is None:
        return "inconclusive"
    return verdict_of(axis.exponent.low, axis.exponent.high, axis.expected_exponent, TOLERANCE)
