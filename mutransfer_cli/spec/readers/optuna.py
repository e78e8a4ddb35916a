"""Optuna studies in SQLite databases and journal files.

The columns are those of `study.trials_dataframe()` with points: `params.lr`, `user_attrs.seed`,
`value`. A run's result is the value that its objective returned.
"""

from __future__ import annotations

import io
import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import Table, flat, runs_table

# names and numbers of states, as the words that statuses have elsewhere
STATES = {"RUNNING": "running", "COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
STATES |= {"WAITING": "pending"}
NUMBERED = ("running", "complete", "pruned", "failed", "pending")
MAXIMIZE = 2
NOT_FINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
METRIC_NAMES = "study:metric_names"  # system attribute


@dataclass
class _Trial:
    study: int
    number: int
    state: str = "running"
    params: dict[str, Any] = field(default_factory=dict)
    user_attrs: dict[str, Any] = field(default_factory=dict)
    values: dict[int, float] = field(default_factory=dict)
    """By objective."""


@dataclass
class _Study:
    name: str
    maximize: list[bool]
    user_attrs: dict[str, Any] = field(default_factory=dict)
    metric_names: list[str] | None = None

    def objective(self, index: int) -> str:
        """The column of an objective, as Optuna's own data frames name it."""
        if self.metric_names and index < len(self.metric_names):
            name = self.metric_names[index]
            return f"values.{name}"
        return "value" if len(self.maximize) == 1 else f"values.{index}"


def read_database(database: sqlite3.Connection, where: str) -> Table:
    """Read every study of an Optuna database.

    Raises:
        InputError: there is no trial, or studies go in different directions.
        sqlite3.Error: the database cannot be read.
    """
    studies = {key: _Study(name, []) for key, name in database.execute("select * from studies")}
    query = "select study_id, direction from study_directions order by objective"
    for key, direction in database.execute(query):
        studies[key].maximize.append(direction == "MAXIMIZE")
    query = "select study_id, key, value_json from study_user_attributes"
    for key, name, value in database.execute(query):
        studies[key].user_attrs[name] = _parsed(value)
    query = "select study_id, key, value_json from study_system_attributes"
    for key, name, value in database.execute(query):
        if name == METRIC_NAMES:
            studies[key].metric_names = _parsed(value)
    query = "select trial_id, study_id, number, state from trials order by study_id, number"
    trials = {
        key: _Trial(study, number, STATES.get(state, state))
        for key, study, number, state in database.execute(query)
    }
    query = "select trial_id, param_name, param_value, distribution_json from trial_params"
    for key, name, value, distribution in database.execute(query):
        trials[key].params[name] = _external(value, distribution)
    query = "select trial_id, key, value_json from trial_user_attributes"
    for key, name, value in database.execute(query):
        trials[key].user_attrs[name] = _parsed(value)
    query = "select trial_id, objective, value, value_type from trial_values"
    for key, objective, value, kind in database.execute(query):
        trials[key].values[objective] = NOT_FINITE.get(kind, value)
    return _table(where, studies, trials.values())


def read_journal(text: str, where: str) -> Table:
    """Read a file of Optuna's JournalStorage: one operation per line.

    Raises:
        InputError: a line that is none, no trial, or studies in different directions.
    """
    journal = _Journal()
    lines = [(number, line) for number, line in enumerate(io.StringIO(text), 1) if line.strip()]
    for number, line in lines:
        try:
            journal.apply(json.loads(line))
        except (ValueError, LookupError, TypeError) as error:
            if number == lines[-1][0]:  # being written, or cut short
                break
            raise InputError(
                f"{where} line {number}: not an operation of an Optuna journal ({error}); export "
                "study.trials_dataframe().to_csv('runs.csv')"
            ) from error
    kept = [trial for trial in journal.trials.values() if trial.study in journal.studies]
    return _table(where, journal.studies, kept)


class _Journal:
    """The state that the operations of a journal lead to.

    Studies and trials are numbered as they are created. Source: `JournalStorageReplayResult` in
    optuna/storages/journal/_storage.py.
    """

    def __init__(self) -> None:
        self.studies: dict[int, _Study] = {}
        self.trials: dict[int, _Trial] = {}
        self._created, self._started = 0, 0

    def apply(self, line: Mapping[str, Any]) -> None:
        """Apply one operation."""
        code = line["op_code"]
        if code == 0:
            self._create_study(line)
        elif code == 1:
            self.studies.pop(line["study_id"], None)
        elif code == 4:
            self._create_trial(line)
        elif code in (2, 3):
            if line["study_id"] in self.studies:
                self._set_study(self.studies[line["study_id"]], line)
        elif code == 10:
            for key in line["trial_ids"]:
                self.trials.pop(key, None)
        elif line["trial_id"] in self.trials:
            trial = self.trials[line["trial_id"]]
            if trial.state in ("running", "pending"):  # finished trials do not change
                self._set_trial(trial, line)

    def _create_study(self, line: Mapping[str, Any]) -> None:
        if line["study_name"] in [study.name for study in self.studies.values()]:
            return
        maximize = [direction == MAXIMIZE for direction in line["directions"]]
        self.studies[self._created] = _Study(line["study_name"], maximize)
        self._created += 1

    def _set_study(self, study: _Study, line: Mapping[str, Any]) -> None:
        study.user_attrs |= line.get("user_attr", {})
        study.metric_names = line.get("system_attr", {}).get(METRIC_NAMES, study.metric_names)

    def _create_trial(self, line: Mapping[str, Any]) -> None:
        study = line["study_id"]
        if study not in self.studies:
            return
        number = sum(trial.study == study for trial in self.trials.values())
        trial = _Trial(study, number, NUMBERED[line.get("state", 0)])
        kinds = line.get("distributions", {})
        for name, value in line.get("params", {}).items():
            trial.params[name] = _external(value, kinds[name])
        trial.user_attrs |= line.get("user_attrs", {})
        values = line.get("values") or ([] if line.get("value") is None else [line["value"]])
        trial.values |= dict(enumerate(values))
        self.trials[self._started] = trial
        self._started += 1

    def _set_trial(self, trial: _Trial, line: Mapping[str, Any]) -> None:
        match line["op_code"]:
            case 5:
                value = _external(line["param_value_internal"], line["distribution"])
                trial.params[line["param_name"]] = value
            case 6:
                trial.state = NUMBERED[line["state"]]
                trial.values |= dict(enumerate(line["values"] or []))
            case 8:
                trial.user_attrs |= line["user_attr"]


def _table(where: str, studies: Mapping[int, _Study], trials: Iterable[_Trial]) -> Table:
    trials = list(trials)
    used = {key: study for key, study in studies.items() if any(t.study == key for t in trials)}
    directions = {tuple(study.maximize) for study in used.values()}
    if len(directions) > 1:
        names = ", ".join(study.name for study in used.values())
        raise InputError(
            f"{where}: its studies ({names}) minimize and maximize; export the trials of one as CSV"
        )
    runs = {}
    for trial in trials:
        study = studies[trial.study]
        name = f"{study.name} {trial.number}" if len(used) > 1 else str(trial.number)
        values = {study.objective(index): value for index, value in sorted(trial.values.items())}
        runs[name] = {
            "study": study.name,
            "status": trial.state,
            **flat({"params": trial.params, "user_attrs": trial.user_attrs}),
            **flat({"study.user_attrs": study.user_attrs}),
            **values,
        }
    results = {study.objective(0) for study in used.values() if len(study.maximize) == 1}
    notes: tuple[str, ...] = ()
    if len(used) > 1:
        named = ", ".join(study.name for study in used.values())
        notes = (f"{where}: {len(used)} studies are read together ({named}); see column study",)
    return runs_table(
        where,
        runs,
        result=results.pop() if len(results) == 1 else None,
        maximize=any(any(study.maximize) for study in used.values()),
        notes=notes,
    )


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _external(value: Any, distribution: str) -> Any:
    """The value of a parameter from its stored number; a choice is stored as its position."""
    kind = json.loads(distribution)
    attributes = kind.get("attributes", {})
    if kind.get("name") == "CategoricalDistribution":
        return attributes["choices"][int(value)]
    return int(value) if kind.get("name", "").startswith("Int") else value
