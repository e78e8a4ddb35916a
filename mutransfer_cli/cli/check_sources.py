"""Sources of `mutransfer check`, told apart by their content, and the gates for each kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutransfer_cli.check.gates import (
    Asked,
    Runs,
    gates_of_exponents,
    gates_of_recipe,
    gates_of_records,
    gates_of_table,
)
from mutransfer_cli.check.measure import Gate
from mutransfer_cli.check.static import static_gate
from mutransfer_cli.check.transfer import refuse_inside
from mutransfer_cli.cli.console import note, warn
from mutransfer_cli.cli.next_command import accepted, refuse_all_but_spec
from mutransfer_cli.cli.own_table import fit_own
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import EXPONENTS_SCHEMA, Exponents
from mutransfer_cli.fit.options import TableOptions
from mutransfer_cli.recipe.build import chosen_group
from mutransfer_cli.recipe.types import RECIPE_SCHEMA, Recipe
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.spec.kinds import NAMES, Kind, kind_of
from mutransfer_cli.spec.measurements import DIAGNOSTICS, read_diagnostics
from mutransfer_cli.spec.sources import find_spec, load_records
from mutransfer_cli.spec.sweep import SWEEP_SCHEMA
from mutransfer_cli.spec.yaml_io import load_yaml, read_text
from mutransfer_cli.strict import validated

if TYPE_CHECKING:
    from mutransfer_cli.cli.check_training import Training

RUNS = Path("runs")


@dataclass(frozen=True)
class TrainingOptions:
    """Options of gates that train; None if not given."""

    spec: str | None
    variant: str | None
    widths: tuple[int, ...] | None
    """Widths for gate `coordinates`."""
    seeds: int | None
    """Seeds for gate `coordinates`."""
    budget: float | None
    """Minutes for all training together."""

    def refuse(self) -> None:
        """Refuse options of training where no gate trains.

        Raises:
            InputError: one of them is given.
        """
        for name in ("variant", "widths", "seeds", "budget"):
            if getattr(self, name) is not None:
                raise InputError(
                    f"--{name}: is for gates that train; give their sweep spec with --spec"
                )


@dataclass(frozen=True)
class Source:
    """A source to be checked, with its options; those for a model are for recipes."""

    path: Path | None
    """None for stdin."""
    records: Path | None
    """Runs at a larger width, or the folder where they are to be trained."""
    group: str | None
    model: str | None
    optimizer: str | None
    options: TrainingOptions
    table: TableOptions
    """The options for the table that is the source, or that holds the larger width."""
    of_runs: bool = False
    """Whether the source was given as runs to be judged on their own, which may be a table."""

    @property
    def where(self) -> str:
        """The source's name in messages."""
        return str(self.path or "stdin")

    def verdicts(self, asked: Asked) -> list[Gate]:
        """Run the gates that are asked for.

        Raises:
            InputError: a source of an unknown kind, options that are not for it, or a gate that
                it does not allow.
        """
        path = self.path
        named = path is not None and not path.exists() and find_spec(self.where) is not None
        if named and not self.of_runs:
            return self._of_spec(asked)
        kind = accepted(path, "--records" if self.of_runs else "check")
        if kind in ("table", "folder"):
            return self._of_table(asked)
        if self.records is not None and self.options.spec is None:
            accepted(self.records, "--records")
        if self._larger_kind not in ("table", "folder"):
            self.table.refuse(f"{self.where} is {NAMES[kind]}")
        if kind in ("sweep", "records", "empty"):
            return self._of_records(asked)
        document = load_yaml(read_text(self.path), self.where)
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema == RECIPE_SCHEMA:
            return self._of_recipe(document, asked)
        if schema == EXPONENTS_SCHEMA:
            return self._of_exponents(document, asked)
        if schema == SWEEP_SCHEMA:
            return self._of_spec(asked)
        raise InputError(
            f"{self.where}: is neither a recipe, exponents, records nor a sweep spec; its schema "
            f"is {schema!r}"
        )

    def _refuse(self, asked: Asked, kind: str, *options: str) -> None:
        given = {
            "--model": self.model,
            "--group": self.group,
            "--records": self.records,
            "--spec": self.options.spec,
            "--held-out": asked.held_out,
        }
        for option in options:
            if given[option] is not None:
                raise InputError(f"{option}: is not for {kind}, as {self.where} is; leave it out")

    def _of_spec(self, asked: Asked) -> list[Gate]:
        """Check whether every layer of the spec's model trains in the same way at all widths."""
        options = ("--model", "--group", "--records", "--spec", "--held-out")
        self._refuse(asked, "a sweep spec", *options)
        asked.refuse_beyond(["coordinates"], "a sweep spec")
        return [self._training(self.where).coordinates({}, asked)]

    @property
    def _larger_kind(self) -> Kind | None:
        """Kind of the runs at a larger width; None where there are none yet."""
        there = self.records is not None and self.records.exists()
        return kind_of(self.records) if there else None

    def _of_table(self, asked: Asked) -> list[Gate]:
        """Judge what a table of own results allows."""
        self._refuse(asked, "a table of own results", "--model", "--spec")
        self.options.refuse()
        document, rows = fit_own(self.path, self.table, self.group)
        for axis in document.axes.values():
            for warning in axis.warnings.values():
                warn(warning)
        runs = Runs(rows, document.protocol_hash, document.loss_unit)
        gates, left = gates_of_table(document, runs, asked)
        for sentence in left:
            note(sentence)
        return gates

    def _of_records(self, asked: Asked) -> list[Gate]:
        self._refuse(asked, "a sweep's records", "--model", "--group")
        if self._larger_kind == "table":
            raise InputError(
                f"--records {self.records}: is {NAMES['table']}; a larger width of a sweep needs "
                "its records"
            )
        read = load_records([self.path], warn=warn)
        widths = {trial.width for trial in read.trials}
        has_held_out = asked.held_out is None or asked.held_out in widths
        protocol_hash = read.header.protocol.hash
        trained = self._train(asked, protocol_hash, widths, {}, has_held_out=has_held_out)
        if trained.records is not None:
            read = load_records([trained.records], warn=warn, earlier=read)
        folder = self.path if self.path is not None and self.path.is_dir() else None
        ids = [trial.trial for trial in read.trials]
        measured = read_diagnostics(folder / DIAGNOSTICS, ids) if folder else []
        return [*gates_of_records(read, measured, trained.asked), *trained.gates]

    def _of_exponents(self, document: Any, asked: Asked) -> list[Gate]:
        self._refuse(asked, "an exponents file", "--model")
        exponents = validated(Exponents, document, self.where)
        axis = chosen_group(exponents, self.group).axes.get("lr")
        widths, base = set[int](), dict[AxisName, float]()
        if axis is not None and axis.line is not None:
            widths = set(axis.usable)
            base = {"lr": 2 ** axis.at(max(widths)).value}
        trained = self._train(asked, exponents.protocol_hash, widths, base)
        larger = self._larger(trained.records)
        found = gates_of_exponents(exponents, self.group, larger, trained.asked)
        return [*found, *trained.gates]

    def _of_recipe(self, document: Any, asked: Asked) -> list[Gate]:
        self._refuse(asked, "a recipe", "--group")
        recipe = validated(Recipe, document, self.where)
        if asked.held_out not in (None, recipe.width):
            raise InputError(
                f"--held-out {asked.held_out}: the recipe is for width {recipe.width}; leave it out"
            )
        static = self._static(recipe, asked)
        base: dict[AxisName, float] = {"lr": recipe.base_lr.value}
        known = recipe.provenance
        trained = self._train(asked, known.protocol_hash, known.widths, base, recipe.width)
        larger = self._larger(trained.records)
        return [*gates_of_recipe(recipe, larger, static, trained.asked), *trained.gates]

    def _larger(self, path: Path | None) -> Runs | None:
        """The runs at a larger width."""
        if path is None:
            return None
        if accepted(path, "--records") in ("sweep", "records"):
            return Runs.of(load_records([path], warn=warn))
        document, rows = fit_own(path, self.table, self.group if self.table.by else None)
        return Runs(rows, document.protocol_hash, document.loss_unit)

    def _static(self, recipe: Recipe, asked: Asked) -> Gate | None:
        if not asked.wants("static", by_default=True):
            if self.model is not None:
                raise InputError("--model: is for the gate static, which is not asked for")
            return None
        if self.model is None:
            return static_gate(recipe)
        from mutransfer_cli.recipe.against_model import check_model

        found = check_model(recipe, self.where, self.model, self.optimizer, note)
        return static_gate(recipe, found.findings, found.unchecked)

    def _training(self, spec: str) -> Training:
        refuse_all_but_spec(spec)
        from mutransfer_cli.cli.check_training import Training  # imports torch

        return Training.of(spec, self.options)

    def _train(
        self,
        asked: Asked,
        protocol_hash: str | None,
        widths: Collection[int],
        base: Mapping[AxisName, float],
        width: int | None = None,
        has_held_out: bool = False,
    ) -> Trained:
        """Train for the gates that need it.

        Args:
            widths: widths that the source was fitted to.
            base: base values that the source knows.
            width: width that a recipe is for.
            has_held_out: whether the source has the width that is held out.
        """
        if self.options.spec is None:
            if "coordinates" in (asked.gates or ()):
                raise InputError("--gates coordinates: trains; give its sweep spec with --spec")
            self.options.refuse()
            if asked.held_out is not None and self.records is None and not has_held_out:
                raise InputError(
                    f"--held-out {asked.held_out}: give the sweep at that width with --records, or "
                    "its spec with --spec"
                )
            return Trained([], self.records, asked)
        if self.records is not None and self.records.exists():
            accepted(self.records, "--records, --spec")
        training = self._training(self.options.spec)
        training.refuse_other(protocol_hash, self.where)
        width = asked.held_out or width
        if has_held_out or not asked.wants("transfer", by_default=asked.held_out is not None):
            width = None
        elif width is None:
            raise InputError("--held-out is missing: give the width that is to be trained")
        else:
            refuse_inside(width, widths)
        gates = []
        if asked.wants("coordinates", by_default=True):
            gates.append(training.coordinates(base, asked))
        asked = asked.without("coordinates")
        if width is None:
            return Trained(gates, self.records, asked)
        larger = self.records or RUNS / f"{training.name}-{width}"
        unfinished = training.held_out(width, larger)
        if unfinished is not None:
            return Trained([*gates, unfinished], None, asked.without("transfer"))
        return Trained(gates, larger, asked)


@dataclass(frozen=True)
class Trained:
    """The outcome of training for gates."""

    gates: list[Gate]
    """Gates that training has answered."""
    records: Path | None
    """Runs at a larger width."""
    asked: Asked
    """The gates that are left to answer."""
