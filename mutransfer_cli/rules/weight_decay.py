"""How weight decay scales with width, and its two conventions.

`lr_coupled` (torch.optim.AdamW): w -= lr * wd * w. `independent`: w -= schedule * wd * w, with the
schedule's factor of at most 1 in place of the rate. Hence wd_independent = lr * wd_lr_coupled.

Exponents of the lr-coupled form, for a role with learning rate ~ n^-c and multiplier ~ n^-a:

- `constant`: 0 in the convention in which it is stated; an independent constant is `linear_width`.
- `linear_width`: c, so that lr * wd, and with it the memory of 1 / (lr * wd) steps, is the same at
  all widths. Kosson et al. 2025 (arXiv 2510.19093) find that muP needs it. It is the default,
  because most evidence supports it.
- `sqrt_width`: 3/2 - c - 2a. Fan et al. 2025 (arXiv 2510.15262) observe that in the steady state of
  AdamW the top singular value of a matrix scales as sqrt(lr / wd) * d^0.75; 0.75 is measured, not
  derived. Keeping it constant requires lr / wd ~ d^-3/2; at lr ~ 1/d that is wd ~ sqrt(d), their
  rule. Texts of the abstract with `eta/lambda` and `lambda ~ d` have lost the square roots. The
  general form follows from the effective weight n^-a W.

Which roles decay is a setting. `sqrt_width` says nothing of embeddings: the paper gives vectors no
decay, and an embedding has one growing axis. Its decay of the readout could not be checked. The
code of muP (microsoft/mup, MuAdamW) and of CompleteP (EleutherAI/nanoGPT-mup, branch completep)
decays embeddings, with a rate and a decay that are the same at all widths, as `linear_width` does
with multipliers folded.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, cast, get_args

from mutransfer_cli.errors import InputError

DecayRuleName = Literal["none", "constant", "sqrt_width", "linear_width"]
DecayRule = DecayRuleName | Fraction
DecayConvention = Literal["lr_coupled", "independent"]
ReadoutDecay = Literal["as_hidden", "none"]
EmbeddingDecay = Literal["none", "as_hidden"]

MOST_EXPONENT = 10
DECAY_SOURCES: dict[DecayRuleName, str] = {
    "none": "no weight decay",
    "constant": "weight decay the same at all widths",
    "sqrt_width": "Fan et al. 2025 (arXiv 2510.15262), general form wd ~ n^(3/2 - c - 2a)",
    "linear_width": "lr * wd the same at all widths (Kosson et al. 2025, arXiv 2510.19093)",
}


def decay_source(rule: DecayRule) -> str:
    """The source of a rule, in a few words."""
    if isinstance(rule, Fraction):
        return f"weight decay ~ width^{rule}, chosen by the user"
    return DECAY_SOURCES[rule]


def parse_decay_rule(text: str) -> DecayRule:
    """Parse a rule's name, or an exponent such as `0.5` or `1/2`.

    Raises:
        InputError: the text is neither, or the exponent is too large.
    """
    for name in get_args(DecayRuleName):
        if text == name:
            return cast(DecayRuleName, name)
    try:
        exponent = Fraction(text)
        if abs(exponent) <= MOST_EXPONENT:
            return exponent
        raise InputError(
            f"weight decay rule {text}: no model trains with an exponent of width beyond "
            f"{MOST_EXPONENT}"
        )
    except (ValueError, ZeroDivisionError):
        raise InputError(
            f"weight decay rule {text}: unknown; give {', '.join(get_args(DecayRuleName))}, or an "
            "exponent of width such as 0.5 or 1/2"
        ) from None


def decay_exponent(
    rule: DecayRule, convention: DecayConvention, c: Fraction, a: Fraction
) -> Fraction | None:
    """Exponent x in weight decay ~ n^x of a role that decays, in the convention; None for `none`.

    Args:
        c: the role's learning rate scales as n^-c, including the drift of the base rate.
        a: the role's multiplier scales as n^-a.
    """
    if rule == "none":
        return None
    if rule == "sqrt_width":
        coupled = Fraction(3, 2) - c - 2 * a
    elif rule == "linear_width":
        coupled = c
    else:
        return Fraction(0) if rule == "constant" else rule
    return coupled if convention == "lr_coupled" else coupled - c


def to_lr_coupled(value: float, convention: DecayConvention, lr: float) -> float:
    """Convert a weight decay to the lr-coupled convention, for a peak rate of `lr`."""
    return value if convention == "lr_coupled" else value / lr


def to_independent(value: float, convention: DecayConvention, lr: float) -> float:
    """Convert a weight decay to the independent convention, for a peak rate of `lr`."""
    return value if convention == "independent" else value * lr
