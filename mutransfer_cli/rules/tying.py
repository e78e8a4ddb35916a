"""Tied embeddings: one weight that is looked up and that makes the output."""

from __future__ import annotations

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.exponents import role_exponents
from mutransfer_cli.rules.rule import Rule


def refuse_tied(rule: Rule) -> None:
    """
    Raises:
        InputError: a rule that gives the embedding and the readout other multipliers or rates; one
            weight has one of each.
    """
    embedding, readout = role_exponents(rule, "embedding"), role_exponents(rule, "readout")
    differences = {
        "multiplier": (embedding.multiplier, readout.multiplier),
        "lr": (embedding.lr, readout.lr),
    }
    for quantity, (one, other) in differences.items():
        if one != other:
            raise InputError(
                f"tied_embeddings: {rule.parameterization} with lr_rule {rule.lr_rule} gives the "
                f"embedding a {quantity} of width^{one} and the readout one of width^{other}, and "
                "one weight has one; take standard with lr_rule global, or leave it out"
            )
