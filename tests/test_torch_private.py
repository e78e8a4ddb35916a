from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch._inductor import compile_fx
from torch._inductor.fx_passes import fuse_attention

from mutransfer_cli import __version__
from mutransfer_cli.torch_private import CACHE, prepare_inductor


def test_compiled_code_is_kept_in_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """This holds even if torch has already chosen its own folder among the temporary files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for before in (None, str(Path(tempfile.gettempdir()) / "torchinductor_somebody")):
        monkeypatch.delenv(CACHE, raising=False)
        if before:
            monkeypatch.setenv(CACHE, before)
        prepare_inductor()
        assert os.environ[CACHE] == str(tmp_path / "mutransfer" / f"inductor-{__version__}")


def test_a_folder_of_the_users_own_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path))
    prepare_inductor()
    assert os.environ[CACHE] == str(tmp_path)


@pytest.mark.parametrize("module", [compile_fx, fuse_attention])
def test_the_hint_to_turn_tensor_float_on_is_not_heard(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType
) -> None:
    """torch gives it once per process, on a GPU that has TensorFloat32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    hint = module._warn_tf32_disabled.__wrapped__
    with pytest.warns(UserWarning, match="TensorFloat32"):
        hint()
    prepare_inductor()
    hint()  # warnings are errors in tests
    with pytest.warns(UserWarning, match="TensorFloat32 of another kind"):
        warnings.warn("TensorFloat32 of another kind", stacklevel=1)
