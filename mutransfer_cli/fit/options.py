"""Everything that a user says about a table of own results, beside the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.weight_decay import DecayConvention

if TYPE_CHECKING:
    from mutransfer_cli.spec.rows import Choices


MOST_OCTAVES = 50


def refuse_octaves(**options: float | None) -> None:
    """Refuse an option that is no positive, finite number of octaves; None is not given.

    Raises:
        InputError: such an option.
    """
    for name, octaves in options.items():
        if octaves is None:
            continue
        if not isinstance(octaves, int | float) or not 0 < octaves <= MOST_OCTAVES:
            raise InputError(
                f"{name} {octaves!r}: expected a positive number of octaves, {MOST_OCTAVES} at "
                "most",
                setting=name,
            )


def metric_of_records(metric: str | None) -> str:
    """The loss of records to fit; eval_loss for None.

    Raises:
        InputError: records lack it.
    """
    if metric not in (None, "eval_loss", "train_loss"):
        raise InputError(
            f"metric {metric}: records have eval_loss and train_loss", setting="metric"
        )
    return metric or "eval_loss"


@dataclass(frozen=True)
class TableOptions:
    """The options for tables; None, False or empty if not given."""

    columns: str | Mapping[str, str] | None
    metric: str | None
    maximize: bool
    by: tuple[str, ...]
    where: str | None
    last: str | None
    keep: str | None
    size: tuple[str, ...]
    protocol: Path | None
    decay_convention: DecayConvention | None
    optima: bool
    grid_spacing: float | None
    path_pattern: str | None

    @property
    def given(self) -> list[str]:
        """The names of the options that the user gave."""
        return [name for name, value in vars(self).items() if value]

    def refuse(self, why: str, but: str | None = None) -> None:
        """Refuse the options given, except for `but`, because the source is no table.

        Raises:
            InputError: such an option.
        """
        for name in self.given:
            if name != but:
                raise InputError(
                    f"{name}: is for tables of own results, and {why}; leave it out", setting=name
                )

    def metric_of_records(self) -> str:
        """The loss to fit if the source holds records, which have their columns and protocol.

        Raises:
            InputError: another option than the metric, or a metric that records lack.
        """
        self.refuse("the records of a sweep hold their columns and protocol", but="metric")
        return metric_of_records(self.metric)

    def refuse_contradictions(self, resamples: int) -> None:
        """Refuse options that contradict `optima` or its absence.

        Raises:
            InputError: such an option.
        """
        losses = ("metric", "maximize", "last", "keep")
        of_losses = [name for name in self.given if name in losses]
        of_losses += ["resamples"] if resamples else []
        if self.optima and of_losses:
            name = of_losses[0]
            raise InputError(
                f"{name}: is for losses, and a table of best values has none; leave it out",
                setting=name,
            )
        if self.grid_spacing is not None and not self.optima:
            raise InputError(
                "grid_spacing: is for a table of best values; leave it out", setting="grid_spacing"
            )

    def choices(self) -> Choices:
        """Gather what the options say about the rows and columns of the table.

        Raises:
            InputError: `columns` or `keep` is malformed.
        """
        from mutransfer_cli.spec.columns import named_columns, parse_columns
        from mutransfer_cli.spec.rows import Choices

        named: dict[str, str] = {}
        if isinstance(self.columns, str):
            named = parse_columns(self.columns)
        elif self.columns is not None:
            named = named_columns(self.columns.items())
        keep = None
        if self.keep is not None:
            which, _, keep = (part.strip() for part in self.keep.partition(":"))
            if which != "last" or not keep:
                raise InputError(
                    f"keep {self.keep}: expected last:COLUMN with a column that says which row is "
                    "later, such as last:created_at (last:row is the order of the table)",
                    setting="keep",
                )
        return Choices(
            columns=named,
            metric=self.metric,
            maximize=self.maximize,
            by=self.by,
            where=self.where,
            last=self.last,
            keep=keep,
            sizes=self.size,
            optima=self.optima,
            path_pattern=self.path_pattern,
        )
