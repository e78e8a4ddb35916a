"""The choices of a recipe's rule."""

from __future__ import annotations

from typing import ClassVar

from mutransfer_cli.rules.choices import EpsilonRule, LrRule
from mutransfer_cli.rules.weight_decay import DecayConvention, EmbeddingDecay, ReadoutDecay
from mutransfer_cli.spec.parameterization import AlignmentChoice, DecayRuleText
from mutransfer_cli.strict import Positive, Sparse


class RuleChoices(Sparse):
    """Choices that turn the base values into `roles`, with `parameterization`, `base_width`,
    `optimizer` and `lr_mult`; keys as in a sweep spec.
    """

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"embedding_decay"})

    alignment: AlignmentChoice
    """How updates align with what they multiply: full, none, or exponents by role."""
    lr_rule: LrRule
    """How many rates there are: one by role, or one for all."""
    weight_decay: DecayRuleText
    """How the base weight decay scales with width."""
    decay_convention: DecayConvention
    """The convention of every weight decay here."""
    readout_decay: ReadoutDecay
    """Weight decay of the readout: that of the hidden matrices, or none."""
    embedding_decay: EmbeddingDecay = "none"
    """Weight decay of embeddings, likewise."""
    epsilon: EpsilonRule | None
    """How eps scales with width; null where the optimizer has none."""
    folded: bool
    """Whether multipliers are moved into the other values."""
    eps: Positive | None
    """Epsilon at the base width; null where the optimizer has none."""
