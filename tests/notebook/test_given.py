from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.notebook.given import found, path_of


def test_texts_and_paths_are_paths() -> None:
    assert path_of("runs/x", "a folder") == path_of(Path("runs") / "x", "a folder")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (pd.DataFrame(), "a DataFrame"),
        (None, "None"),
        ("", "''"),
        (3, "3"),
        ({}, "a dict"),
        (InputError(""), "an InputError"),
    ],
)
def test_anything_else_is_refused_in_words(given: Any, words: str) -> None:
    assert found(given) == words
    with pytest.raises(InputError, match=f"^expected a folder, found {words}; give one$"):
        path_of(given, "a folder", "; give one")
