"""Torch's and transformers' warnings stay away from users; those of their own code reach them."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mutransfer_cli.quiet import LOUDNESS, quiet_libraries

OWN_MODEL = """
import logging
import warnings

import torch
from torch import nn
from transformers.utils import logging as transformers_logging


class Recurrent(nn.Module):
    def __init__(self, width, vocab):
        super().__init__()
        warnings.warn("this model is old")
        layer = nn.TransformerEncoderLayer(width, 2, dropout=0.0, batch_first=False)
        self.encoder = nn.TransformerEncoder(layer, 1)  # torch warns of nested tensors
        self.embed = nn.Embedding(vocab, width)
        self.cell = nn.GRUCell(width, width)  # torch warns that vmap has no rule for it
        self.head = nn.Linear(width, vocab)
        scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(self.parameters()), 1)
        scheduler.step()  # torch blames this line
        transformers_logging.get_logger("transformers.models").warning("transformers logs")
        logging.getLogger("torch").warning("torch logs")

    def forward(self, tokens):
        warnings.warn("forward is slow", stacklevel=1)
        x = self.encoder(self.embed(tokens))
        states = [torch.zeros_like(x[:, 0])]
        for position in range(x.shape[1]):
            states.append(self.cell(x[:, position], states[-1]))
        return self.head(torch.stack(states[1:], 1))


def recurrent(width, vocab):
    return Recurrent(width, vocab)
"""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings of this process that a user sees."""
    found: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: found.append(str(message)))
    for name in LOUDNESS:
        monkeypatch.setenv(name, "as the user has it")
    quiet_libraries()
    warnings.simplefilter("always")  # pytest restores the filters
    return found


def test_a_warning_is_told_by_the_code_that_issued_it(shown: list[str]) -> None:
    """Torch blames the first of these on a line of this file."""
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(nn.Linear(2, 2).parameters()), 1)
    scheduler.step()
    warnings.warn("Detected call of a user's own", stacklevel=3)  # blamed on pytest
    assert shown == ["Detected call of a user's own"]


def test_a_warning_of_torchs_compiled_code_is_not_shown(shown: list[str]) -> None:
    """Torch warns once in each process, so that this repeats its words."""
    warnings.warn("There is a performance drop (Triggered internally at a.cpp:82.)", stacklevel=1)
    warnings.warn("There is a performance drop", stacklevel=1)
    assert shown == ["There is a performance drop"]


@pytest.mark.usefixtures("shown")
def test_what_the_user_has_set_stays() -> None:
    assert {os.environ[name] for name in LOUDNESS} == {"as the user has it"}


@pytest.mark.processes
def test_a_sweep_shows_the_warnings_of_the_users_code_only(
    tiny: dict[str, Any], write_spec: Callable[[Any], Path], tmp_path: Path
) -> None:
    """Both in the driver, which reads the model, and in the workers, which train it."""
    pytest.importorskip("transformers")
    (tmp_path / "models.py").write_text(OWN_MODEL)
    tiny["model"] = {"factory": "models:recurrent"}
    tiny["train"] |= {"context": 4, "steps": 2, "warmup": 1, "eval_batches": 1}
    tiny["sweep"] = {"widths": [16], "axes": {"lr": [2**-9, 2**-8]}}
    program = [sys.executable, "-m", "mutransfer_cli", "sweep-proxy", str(write_spec(tiny))]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [*program, "-o", "found", "--workers", "1"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    blamed = [line for line in done.stderr.splitlines() if "Warning: " in line]
    own = {line.partition("Warning: ")[2] for line in blamed}
    assert own == {"this model is old", "forward is slow"}, done.stderr
    assert len(blamed) > len(own), "the driver's and the worker's"
    assert "transformers logs" not in done.stderr
    assert "torch logs" not in done.stderr
