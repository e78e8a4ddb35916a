from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from mutransfer_cli.torch_private import CACHE, prepare_inductor


def test_compiled_code_is_kept_in_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where torch has already chosen its own folder, among the temporary files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for before in (None, str(Path(tempfile.gettempdir()) / "torchinductor_somebody")):
        monkeypatch.delenv(CACHE, raising=False)
        if before:
            monkeypatch.setenv(CACHE, before)
        prepare_inductor()
        assert os.environ[CACHE] == str(tmp_path / "mutransfer" / "inductor")


def test_a_folder_of_the_users_own_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path))
    prepare_inductor()
    assert os.environ[CACHE] == str(tmp_path)
