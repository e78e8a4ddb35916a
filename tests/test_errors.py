"""Each error is one sentence and ends a command with its documented exit code."""

from __future__ import annotations

import pickle

import pytest

from mutransfer_cli import errors
from mutransfer_cli.errors import InputError, MutransferError

EXIT_CODES = {
    "MutransferError": 1,
    "StorageError": 1,
    "InputError": 2,
    "InsufficientEvidence": 4,
    "SweepIncomplete": 5,
    "NotExpressible": 6,
    "SweepInterrupted": 130,
}


def test_exit_codes_are_those_of_the_documents() -> None:
    found = {
        name: value.exit_code
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, MutransferError)
    }
    assert found == EXIT_CODES


def test_an_error_knows_the_arguments_it_is_about() -> None:
    error = InputError("width 64: is seen", setting="width", remedy="group")
    assert (str(error), error.setting, error.remedy) == ("width 64: is seen", "width", "group")
    plain = InputError("no such file")
    assert (plain.setting, plain.remedy) == (None, None)


@pytest.mark.parametrize("name", EXIT_CODES)
def test_errors_travel_between_processes(name: str) -> None:
    error = getattr(errors, name)("it is full", setting="output", remedy="width")
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert (str(found), found.setting, found.remedy) == ("it is full", "output", "width")
