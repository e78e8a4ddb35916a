"""The list of optimizers, from which every other table of them follows.

To add one, write its section in a file of this folder and add an entry here. The command line reads
the list at each start, so that it imports no section itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Literal, cast

from mutransfer_cli.rules.choices import ADAMW, Optimizer

if TYPE_CHECKING:
    from mutransfer_cli.optim.section import OptimizerSection

# the facts that the rules need, and the file and class of the section in this folder
LISTED = {
    Optimizer("sgd", "sgd", no_epsilon="sgd divides by nothing"): "sgd.SGDSpec",
    Optimizer("adam", "adam"): "adamw.AdamSpec",
    ADAMW: "adamw.AdamWSpec",
    Optimizer(
        "adam_atan2",
        "adam",
        no_epsilon="adam_atan2 has no epsilon: its update atan2(m, sqrt(v)) divides by nothing",
    ): "adam_atan2.AdamAtan2Spec",
    Optimizer(
        "lion", "adam", no_epsilon="lion takes the sign of its momentum and divides by nothing"
    ): "lion.LionSpec",
    Optimizer(
        "adafactor",
        "adafactor",
        no_epsilon="adafactor's floor of 1e-30 under squared gradients is not scaled",
    ): "adafactor.AdafactorSpec",
    Optimizer("muon", "muon"): "muon.MuonSpec",
}
OPTIMIZERS = {facts.name: facts for facts in LISTED}

if TYPE_CHECKING:
    OptimizerName = str
else:
    OptimizerName = Literal[tuple(OPTIMIZERS)]


def section_of(name: str) -> type[OptimizerSection]:
    """The section of a listed optimizer."""
    module, _, section = LISTED[OPTIMIZERS[name]].partition(".")
    found = getattr(import_module(f"mutransfer_cli.optim.{module}"), section)
    return cast("type[OptimizerSection]", found)
