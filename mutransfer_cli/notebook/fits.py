"""How optima move with width, fitted to runs: numbers, figures and recipes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import pandas as pd

from mutransfer_cli.check.answer import headline, questions, runs_per_width
from mutransfer_cli.errors import InputError, InsufficientEvidence
from mutransfer_cli.fit.exponents import Axis, Exponents, Interval
from mutransfer_cli.notebook.given import found, path_of
from mutransfer_cli.notebook.html import shown
from mutransfer_cli.recipe.build import build_recipe, of_group
from mutransfer_cli.recipe.forecast import from_octaves
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.report import axis as figures_of_axis
from mutransfer_cli.report.export import optima
from mutransfer_cli.report.run import run_of_table
from mutransfer_cli.report.svg import Figure
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.spec.yaml_io import dump, write_result
from mutransfer_cli.strict import MAX_WIDTH, nearest
from mutransfer_cli.words import as_sentence, signed, words_of_status

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class Fit:
    """Fitted runs; `Run.fit` and `fit_exponents` make it."""

    name: str
    """Names the runs, such as the sweep's folder."""
    exponents: Exponents
    """The result, as `mutransfer fit-exponents` writes it."""
    trials: pd.DataFrame
    """The fitted runs, one per row, with their loss as eval_loss; best values have no loss."""
    notes: tuple[str, ...] = ()
    """What was found in a table and what was left out, in sentences."""
    by: str | None = None
    """The column of the groups, where they were fitted each on its own."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons for doubt about the runs and the fit, each once."""
        if not self.exponents.groups:
            return tuple(run_of_table(self.name, self.exponents, self.trials).warnings)
        parts = (self.group(name) for name in self.exponents.groups)
        return tuple(dict.fromkeys(sentence for part in parts for sentence in part.warnings))

    def group(self, name: str) -> Fit:
        """The fit of one group.

        Raises:
            InputError: there is no such group.
        """
        exponents, trials = of_group(self.exponents, name), self.trials
        if self.by is not None:
            trials = trials[trials[self.by].astype(str) == name]
        return Fit(f"{self.name}, {name}", exponents, trials, self.notes)

    def at(self, width: float, axis: AxisName | None = None) -> Interval:
        """The value to use at a width, and between which values one run's own optimum lies there.

        Args:
            width: width of the target, in features.
            axis: the hyperparameter; None for the first one, the learning rate where it was swept.

        Raises:
            InsufficientEvidence: the axis has no usable fit.
            InputError: there is no such axis or width, or the fit has groups.
        """
        if not isinstance(width, Real) or not 0 < width < MAX_WIDTH:
            raise InputError(f"width: expected a positive number of features, found {found(width)}")
        name, fit = self._axis(axis)
        if fit.exponent is None:
            raise InsufficientEvidence(f"{name}: {fit.sentence}")
        line, what = fit.at(width), f"the prediction of {name} at width {width:g}"
        low, value, high = (from_octaves(at, what) for at in (line.low, line.value, line.high))
        return Interval(value=value, low=low, high=high, level=fit.exponent.level)

    def recipe(
        self, width: int, *, folded: bool | None = None, target: Mapping[str, Any] | None = None
    ) -> Recipe:
        """The values of every role at a width, as `mutransfer transfer` writes them.

        `recipe.save(path)` writes the file, and `load_recipe` takes the recipe as it is.

        Args:
            width: width of the target, in features.
            folded: whether multipliers are moved into the other values; None: where that is exact.
            target: settings of the target run, such as {"depth": 24}; each difference to the runs
                becomes a warning.

        Raises:
            InsufficientEvidence: an axis has no usable fit.
            InputError: an argument that cannot be used, or the fit has groups.
        """
        is_whole = isinstance(width, Integral) and not isinstance(width, bool)
        if not is_whole or not 0 < width < MAX_WIDTH:
            raise InputError(f"width: expected a positive whole number, found {found(width)}")
        self._axis(None)
        settings = {key: str(value) for key, value in (target or {}).items()}
        return build_recipe(self.exponents, Target(int(width), settings, folded))

    def to_frame(self) -> pd.DataFrame:
        """The optima, one row per axis and width: `value` with its 95% interval from `low` to
        `high`, its status, the loss there, curvature, tilt, and octaves off the line (`residual`).

        A grouped fit has the group's name in a first column.
        """
        if self.exponents.groups:
            parts = {name: self.group(name).to_frame() for name in self.exponents.groups}
            named = [part.assign(**{f"{self.by}": name}) for name, part in parts.items()]
            whole = pd.concat(named, ignore_index=True)
            return whole[[f"{self.by}", *whole.columns.drop(f"{self.by}")]]
        return optima(self.exponents)

    def figures(self, axis: AxisName | None = None) -> list[Figure]:
        """The bowls and the optima against width, where they can be drawn; `save(path)` writes one.

        Raises:
            InputError: there is no such axis, or the fit has groups.
        """
        name, fit = self._axis(axis)
        run = run_of_table(self.name, self.exponents, self.trials)
        drawn = figures_of_axis.figures(run, name, fit)
        return [one for one in drawn if one.key.startswith(("bowls", "optima"))]

    def plot(self, axis: AxisName | None = None) -> list[Axes]:
        """Draw the bowls and the optima against width side by side, with matplotlib's pyplot.

        Returns:
            The axes, one per panel; `axes[0].figure` is the figure.

        Raises:
            InsufficientEvidence: every run diverged, or best values have no usable fit.
            InputError: there is no such axis, the fit has groups, or matplotlib is not installed.
        """
        figures = self.figures(axis)
        if not figures:
            raise InsufficientEvidence(f"{self.name}: there is nothing to draw: no run has a loss")
        return side_by_side(figures)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the exponents file, which `mutransfer transfer` reads.

        Raises:
            InputError: the path cannot be written.
        """
        write_result(dump(self.exponents), path_of(path, "the path of the file to write"))

    def _axis(self, name: AxisName | None) -> tuple[AxisName, Axis]:
        axes, groups = self.exponents.axes, self.exponents.groups
        if groups:
            raise InputError(
                f"{self.name}: has the groups {', '.join(groups)}; take one, such as "
                f"fit.group({next(iter(groups))!r})"
            )
        chosen = next(iter(axes)) if name is None else name
        if chosen not in axes:
            raise InputError(f"axis {found(chosen)}: was not swept{nearest(str(chosen), axes)}")
        return chosen, axes[chosen]

    def __repr__(self) -> str:
        groups = self.exponents.groups
        if groups:
            return f"Fit {self.name}: {len(groups)} groups ({', '.join(groups)})"
        told = [_exponent(name, axis) for name, axis in questions(self.exponents).items()]
        return f"Fit {self.name}: {'; '.join(told)}"

    def _repr_html_(self) -> str:
        if self.exponents.groups:
            parts = (self.group(name) for name in self.exponents.groups)
            return "".join(part._repr_html_() for part in parts)
        asked = questions(self.exponents)
        answer = as_sentence(headline(asked, runs_per_width(self.exponents)))
        drawn = [one for axis in self.exponents.axes for one in self.figures(axis)]
        return shown(repr(self), answer, drawn, (*self.notes, *self.warnings))


def _exponent(name: str, axis: Axis) -> str:
    """An exponent with its interval, or why there is none."""
    one = axis.exponent
    if one is None:
        return f"no exponent of {name}: {words_of_status(axis.status)}"
    return f"exponent of {name} {signed(one.value)} ({signed(one.low)} to {signed(one.high)})"


def side_by_side(figures: list[Figure]) -> list[Axes]:
    """Draw figures next to each other on new axes of pyplot."""
    import matplotlib.pyplot as plt

    size = (sum(one.width for one in figures) / 50, max(one.height for one in figures) / 50)
    _, axes = plt.subplots(1, len(figures), figsize=size, squeeze=False, layout="constrained")
    for one, at in zip(figures, axes[0], strict=True):
        one.on(at)
    return list(axes[0])
