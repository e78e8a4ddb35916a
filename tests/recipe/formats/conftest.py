"""Exponents whose recipes hold the same digits on every machine, and targets made of paper."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mutransfer_cli.fit.exponents import Exponents, Interval, Line
from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.test_build import exponents

Prepare = Callable[[dict[str, Any]], Sweep]
Document = Callable[..., Exponents]

WIDTH, LR = 256, 2.0**-6  # of base width 16


@pytest.fixture
def document(tiny: dict[str, Any], prepare: Prepare) -> Document:
    """Exponents of a sweep with changed sections, whose best lr is 2^-6 at every width."""

    def make(**changes: dict[str, Any]) -> Exponents:
        for section, change in changes.items():
            tiny[section] = tiny.get(section, {}) | change
        found = exponents(prepare(tiny))
        exact = {
            "exponent": Interval(value=0.0, low=-0.1, high=0.1, level=0.95),
            "line": Line(width=24.0, value=LR, low=LR / 1.1, high=LR * 1.1, scatter=0.0),
            "warnings": {},
        }
        axes = {"lr": found.axes["lr"].model_copy(update=exact)}
        return found.model_copy(update={"axes": axes})

    return make


def written(found: Exponents, to: str, folded: bool = False, allow_lossy: bool = True) -> str:
    return emit(found, Target(WIDTH, {}, folded), to, allow_lossy).text


def executed(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(text, "emitted", "exec"), names)
    return names


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """A module whose classes only keep what they are given."""

    def fold(name: str, **content: Any) -> ModuleType:
        parts = name.split(".")
        for n in range(1, len(parts) + 1):
            parent = ".".join(parts[:n])
            if parent not in sys.modules:
                monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
            if n > 1:
                above = sys.modules[".".join(parts[: n - 1])]
                monkeypatch.setattr(above, parts[n - 1], sys.modules[parent], raising=False)
        module = sys.modules[name]
        for key, value in content.items():
            setattr(module, key, value)
        return module

    return fold


def keeps(**given: Any) -> SimpleNamespace:
    return SimpleNamespace(**given)
