"""A step that asks the host for a value is found before the capture, with the line that asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import _pop_mode, _push_mode

from mutransfer_cli.train import capture
from mutransfer_cli.train.capture import SYNCHRONIZES, AsksTheHost, no_questions
from tests.train.replay import NoQuestions

MODEL = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        self.hidden = nn.Linear(width, width)
        self.readout = nn.Linear(width, 256, bias=False)
        self.register_buffer("gate", torch.ones(()))

    def forward(self, tokens):
        x = self.embedding(tokens)
        {line}
        return self.readout(x + self.hidden(x).relu())

def build(width):
    return Model(width)
"""
TESTS = str(Path(__file__).parent)
ASKING = {
    "item": "x = x * self.gate.item()",
    "branch": "x = x if self.gate > 0 else -x",
    "mask": "x = x + self.gate.view(1)[self.gate.view(1) > 0].sum()",
    "constant": "x = x * torch.tensor(1.0, device=x.device)",
}


class Synchronizing(NoQuestions):  # type: ignore[no-untyped-call]
    """CUDA's debug mode on a CPU: raises torch's message at operations that wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            return super().__torch_dispatch__(func, types, args, kwargs)
        except AssertionError as error:
            raise RuntimeError(SYNCHRONIZES) from error


@pytest.fixture
def debug_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.cuda.set_sync_debug_mode` for a CPU."""
    mode = ["default"]

    def set_mode(wanted: str) -> None:
        if wanted == "error":
            _push_mode(Synchronizing())  # type: ignore[no-untyped-call]
        elif mode[0] == "error":
            _pop_mode()
        mode[0] = wanted

    monkeypatch.setattr(capture, "NOT_THE_USERS", (*capture.NOT_THE_USERS, TESTS))
    monkeypatch.setattr("torch.cuda.get_sync_debug_mode", lambda: mode[0])
    monkeypatch.setattr("torch.cuda.set_sync_debug_mode", set_mode)


@pytest.mark.usefixtures("debug_mode")
@pytest.mark.parametrize("asking", ASKING)
def test_the_users_own_line_is_named(
    tiny: dict[str, Any],
    write_spec: Callable[[Any], Path],
    tmp_path: Path,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    asking: str,
) -> None:
    """A model whose forward asks for a value trains launched; the CPU claims to capture."""

    def captured(step: Callable[[], Any], beside: object) -> Any:
        with no_questions():
            step()
        raise AssertionError("a step that asks was captured")

    (tmp_path / f"asks_{asking}.py").write_text(MODEL.replace("{line}", ASKING[asking]))
    monkeypatch.chdir(tmp_path)
    tiny |= {"model": {"factory": f"asks_{asking}:build"}}
    tiny["sweep"] = {"widths": [16], "axes": {"lr": [2**-8, 2**-7]}}
    monkeypatch.setattr("mutransfer_cli.sweep.choice.with_capture", lambda execution, *_: execution)
    monkeypatch.setattr("mutransfer_cli.train.slots.captured", captured)
    result = run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    (line,) = [x for x in result.stderr.splitlines() if "a worker with" in x]
    assert f"asks_{asking}.py:15 ({ASKING[asking]}) waits for a value from the device" in line
    assert line.endswith("; they go on launched step by step, 2 side by side")


@pytest.mark.usefixtures("debug_mode")
def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape") as raised, no_questions():
        torch.ones(2).reshape(3)
    assert not isinstance(raised.value, AsksTheHost)
    torch.ones(3).max().item()  # the mode is off again
