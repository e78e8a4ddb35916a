"""Exponents whose recipes have the same digits on every machine; stand-ins for target classes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mutransfer_cli.fit.exponents import Exponents, Interval, Line
from mutransfer_cli.recipe.formats import FORMATS
from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.test_build import exponents

Prepare = Callable[[dict[str, Any]], Sweep]
Document = Callable[..., Exponents]
Claims = Callable[[list[str]], Iterable[tuple[str, float, float]]]

TRAINERS = [to for to in FORMATS if to != "pytorch"]
HOSTILE = "a\n'''\"\"\"\nimport os\n# \r\x0c\u2028\x85: [}{ $(touch x) `y` '{{ 6 * 7 }}{% if %}{#"
WIDTH, LR = 256, 2.0**-6  # with base width 16


@pytest.fixture
def document(tiny: dict[str, Any], prepare: Prepare) -> Document:
    """Exponents of a sweep with changed sections and best lr 2^-6 at every width."""

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


def without_protocol(found: Exponents, **changes: Any) -> Exponents:
    nothing = {"protocol": None, "base_plan": (), "decay_convention": None}
    return found.model_copy(update=nothing | changes)


def written(found: Exponents, to: str, folded: bool = False, allow_lossy: bool = True) -> str:
    return emit(found, Target(WIDTH, {}, folded), to, allow_lossy).text


# lr-coupled (rate, decay) by role: mup at 16 times the base width, folded, for a base decay of 0.1
QUERY = 8**-0.5  # 1/d_head over the target's 1/sqrt(d_head), heads of 8
EXPECTED = {
    "embedding": (LR, 0.0),
    "readout": (LR / 16, 1.6),
    "vector": (LR, 0.0),
    "hidden": (LR / 16, 1.6),
    "query": (LR / 16 * QUERY, 1.6 / QUERY),
}
# mean, std and fan-in of the same: the proxies' stds at base width 16 are 1, and 16**-0.5 inside
# and for the readout
INIT = {
    "embedding": (0.0, 1.0, None),
    "readout": (0.0, 1 / 64, None),
    "vector": (1.0, 0.0, None),
    "query": (0.0, pytest.approx(QUERY / 16), WIDTH),
    "hidden": (0.0, 1 / 16, WIDTH),
}
# sections `train` with every schedule
SCHEDULES: tuple[dict[str, Any], ...] = (
    {"schedule": "linear"},
    {"schedule": "cosine"},
    {"schedule": "constant"},
    {"schedule": "wsd", "decay_fraction": 0.3},
    {"schedule": "linear", "warmup": 0},
)


def claimed_once(names: dict[str, list[str]], claims: Claims) -> None:
    """Assert that each parameter is claimed once, with the values of its role.

    Args:
        names: names of parameters by role.
        claims: the target's own grouping; gives name, learning rate and weight decay.
    """
    roles = {name: role for role, found in names.items() for name in found}
    claimed = list(claims(list(roles)))
    assert sorted(name for name, _, _ in claimed) == sorted(roles)
    for name, lr, decay in claimed:
        assert (lr, decay) == pytest.approx(EXPECTED[roles[name]], rel=1e-5), name


def executed(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(text, "emitted", "exec"), names)
    return names


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Make a module whose classes only store their arguments."""

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
