"""The optimizers, by what the rules need of them: how an update's size depends on the gradient."""

from __future__ import annotations

from typing import Literal

from mutransfer_cli.rules.roles import Role

Family = Literal["sgd", "adam", "adafactor", "muon"]
OptimizerName = Literal["sgd", "adam", "adamw", "adam_atan2", "lion", "adafactor", "muon"]
LrAdjustment = Literal["original", "match_rms_adamw"]

FAMILY: dict[OptimizerName, Family] = {
    "sgd": "sgd",
    "adam": "adam",
    "adamw": "adam",
    "adam_atan2": "adam",
    "lion": "adam",
    "adafactor": "adafactor",
    "muon": "muon",
}

# why an optimizer has no epsilon that a rule could scale
NO_EPSILON: dict[OptimizerName, str] = {
    "sgd": "sgd divides by nothing",
    "adam_atan2": "adam_atan2 has no epsilon: its update atan2(m, sqrt(v)) divides by nothing",
    "lion": "lion takes the sign of its momentum and divides by nothing",
    "adafactor": "adafactor's floor of 1e-30 under squared gradients is not scaled",
}


def family_of(optimizer: OptimizerName, role: Role) -> Family:
    """Muon orthogonalises hidden matrices and leaves the rest to AdamW."""
    family = FAMILY[optimizer]
    return "adam" if family == "muon" and role != "hidden" else family


def rescalings(optimizer: OptimizerName, role: Role) -> int:
    """How often rescaling a weight enters the rate that undoes it: W/s is trained by lr/s^this.

    Updates that follow the gradient feel it twice (their own size and the gradient's), those of
    fixed size once, those relative to the weight not at all (Yang & Hu 2022, arXiv 2203.03466,
    Lemma J.1 for SGD and Adam).
    """
    return {"sgd": 2, "adam": 1, "muon": 1, "adafactor": 0}[family_of(optimizer, role)]
