"""Numbers of a recipe file, each with its status and source."""

from __future__ import annotations

from typing import ClassVar, Literal

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.weight_decay import DecayConvention, to_lr_coupled
from mutransfer_cli.spec.parameterization import DecayRuleText
from mutransfer_cli.strict import NonNegative, Number, Positive, Share, Sparse, Strict

NumberStatus = Literal["derived", "fitted", "assumed"]


class Quantity(Sparse):
    """A number with its status and source."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"low", "high", "level"})

    value: Number
    """The number to use, in the units of its key."""
    status: NumberStatus
    """How it was found: derived from the rule, fitted with interval, or assumed."""
    low: Number | None = None
    """Lower end of the interval of a fitted number."""
    high: Number | None = None
    """Upper end of the interval of a fitted number."""
    level: Share | None = None
    """Probability that such an interval holds the true value; 0.95 is 95%."""
    source: str
    """Where the number comes from, in a few words."""


class WeightDecay(Quantity):
    """Weight decay per step, in the convention that it names."""

    OPTIONAL: ClassVar[frozenset[str]] = Quantity.OPTIONAL | {
        *("convention", "base", "rule", "factor"),
    }

    convention: DecayConvention | None = None
    """lr_coupled: w -= lr * value * w, as torch.optim.AdamW; independent: w -= schedule * value *
    w. Absent where the user's own results do not declare it."""
    base: Positive | None = None
    """The base weight decay; value = base * factor. Absent where nothing decays."""
    rule: DecayRuleText | None = None
    """The rule of the factor; absent where the protocol of own results does not declare it."""
    factor: Positive | None = None
    """Power of the growth in width, or in fan-in, by the rule; in a folded recipe times the power
    that moves a multiplier into the decay."""

    def coupled(self, lr: float, assumed: DecayConvention | None) -> float:
        """Convert to the lr-coupled convention, for a peak rate of `lr`.

        Args:
            assumed: the convention where the file names none.

        Raises:
            InputError: neither the file nor the caller names the convention.
        """
        if not self.value or not lr:
            return self.value
        convention = self.convention or assumed
        if convention is None:
            raise InputError(
                f"weight_decay {self.value:g} has no convention; give it with `load_recipe(..., "
                "decay_convention='lr_coupled')` or 'independent'"
            )
        return to_lr_coupled(self.value, convention, lr)


class Betas(Strict):
    """Decay per step of Adam's means, with status and source."""

    value: tuple[NonNegative, NonNegative]
    """Decay per step of the mean of the gradient, and of the mean of its square."""
    status: NumberStatus
    """How they were found: derived from the rule, fitted, or assumed."""
    source: str
    """Where the numbers come from, in a few words."""
