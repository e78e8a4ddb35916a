from __future__ import annotations

from pathlib import Path

import pytest

from mutransfer_cli.train.execution import COLD_SECONDS, SAVED, WARM_SECONDS, pays, remember


def test_compiling_pays_where_it_saves_more_than_it_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not pays(0.99 * COLD_SECONDS / SAVED, "a width")
    assert pays(1.01 * COLD_SECONDS / SAVED, "a width")
    remember("a width")
    assert pays(1.01 * WARM_SECONDS / SAVED, "a width")
    assert not pays(0.99 * WARM_SECONDS / SAVED, "a width")
    assert not pays(0.99 * COLD_SECONDS / SAVED, "another")
