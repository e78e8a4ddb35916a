"""The exponents of width that a rule gives to every hyperparameter of a role."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from mutransfer_cli.rules.optimizers import family_of, rescalings
from mutransfer_cli.rules.parameterizations import PARAMETERIZATIONS, gradient_exponents
from mutransfer_cli.rules.roles import MatrixRole, Role
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.rules.weight_decay import decay_exponent

ZERO = Fraction(0)


@dataclass(frozen=True)
class RoleExponents:
    """Each quantity of a role goes as (n / base_width)^x; None where there is no such quantity.

    Attributes:
        weight_decay: in the rule's convention.
        eps: of Adam's epsilon.
        gradient: size of the gradient's entries at init; None for a scalar, where it depends on
            what the scalar multiplies.
    """

    init_std: Fraction
    multiplier: Fraction
    lr: Fraction
    weight_decay: Fraction | None
    eps: Fraction | None
    gradient: Fraction | None


@cache
def role_exponents(rule: Rule, role: Role) -> RoleExponents:
    """The exponents that the rule applies to a role."""
    if role == "vector" or role == "scalar":
        return _of_vector(rule, role)
    layer = PARAMETERIZATIONS[rule.parameterization][role]
    c = -rule.expected_base_lr_exponent if rule.lr_rule == "global" else rule.rates.c[role]
    gradient = -gradient_exponents(PARAMETERIZATIONS[rule.parameterization])[role]
    plain = RoleExponents(
        init_std=-layer.b,
        multiplier=-layer.a,
        lr=ZERO if rule.lr_rule == "global" else -c,
        weight_decay=decay_exponent(
            rule.weight_decay, rule.decay_convention, role, c, layer.a, rule.readout_decay
        ),
        eps=_eps_exponent(rule, role, gradient),
        gradient=gradient,
    )
    return fold(plain, rule, role, layer.a) if rule.folded else plain


def _of_vector(rule: Rule, role: Role) -> RoleExponents:
    """A vector is an embedding written without multiplier; a scalar does not know of width."""
    lr, gradient = ZERO, None
    if role == "vector":
        layers = PARAMETERIZATIONS[rule.parameterization]
        gradient = layers["embedding"].a - gradient_exponents(layers)["embedding"]
        if rule.lr_rule == "per_layer":
            t = layers["embedding"].a
            lr = -rule.rates.c["embedding"] - rescalings(rule.optimizer, "embedding") * t
    eps = _eps_exponent(rule, role, gradient or ZERO)
    return RoleExponents(ZERO, ZERO, lr, None, eps, gradient)


def _eps_exponent(rule: Rule, role: Role, gradient: Fraction) -> Fraction | None:
    """eps_r = eps * (n / base_width)^-g under `per_layer`; orthogonalised matrices have none."""
    if rule.effective_epsilon == "none" or family_of(rule.optimizer, role) == "muon":
        return None
    return gradient if rule.effective_epsilon == "per_layer" else ZERO


def fold(x: RoleExponents, rule: Rule, role: MatrixRole, t: Fraction) -> RoleExponents:
    """The same training with n^t less multiplier: (a, b, c) becomes (a - t, b + t, c + t).

    The weight is held as n^-t of what it was, its gradient is n^t as large. SGD's c moves by 2t,
    Adafactor's not at all, and each lr-coupled decay against its rate, so that lr * wd stays;
    independent decay stays. t = a removes the multiplier.
    """
    shift = rescalings(rule.optimizer, role) * t
    decay = x.weight_decay
    if decay is not None and rule.decay_convention == "lr_coupled":
        decay += shift
    return RoleExponents(
        init_std=x.init_std - t,
        multiplier=x.multiplier + t,
        lr=x.lr - shift,
        weight_decay=decay,
        eps=None if x.eps is None else x.eps + t,
        gradient=None if x.gradient is None else x.gradient + t,
    )
