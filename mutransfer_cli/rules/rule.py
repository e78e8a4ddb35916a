"""A rule: the choices that decide how hyperparameters scale with width, and their exponents.

Folding moves multipliers into init, rates, decay and epsilon; this module also says where that is
exact and where it is not, and which rules suit tied embeddings, with which output multiplier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.choices import (
    ADAMW,
    FULL,
    PARAMETERIZATIONS,
    Alignment,
    EpsilonRule,
    LrAdjustment,
    LrRule,
    MatrixRole,
    Optimizer,
    ParameterizationName,
    Role,
    gradient_exponents,
)
from mutransfer_cli.rules.stability import LearningRates, derive_rates
from mutransfer_cli.rules.weight_decay import (
    DecayConvention,
    DecayRule,
    EmbeddingDecay,
    ReadoutDecay,
    decay_exponent,
)

ZERO = Fraction(0)


@dataclass(frozen=True)
class Rule:
    """Settings of a rule. Exponents are relative to a base width, at which all rules agree.

    Attributes:
        alignment: the assumption under which learning rates are derived.
        lr_rule: `per_layer`, or `global`: one rate for all roles, whose exponent the sweep finds.
        weight_decay: a rule by name, or an exponent of width in the convention.
        readout_decay: whether the readout decays as hidden matrices do.
        embedding_decay: whether embeddings do.
        epsilon: `constant`; `per_layer`, which shrinks with the role's gradient (Everett et al.
            2024, section on epsilon); `none` for optimizers without one. Default: by optimizer.
        lr_adjustment: Muon's factor on the rate by shape; None for other optimizers.
        folded: whether multipliers are moved into init, rates, decay and epsilon, so that the
            model's forward pass needs none.

    Raises:
        InputError: settings that contradict each other.
    """

    parameterization: ParameterizationName
    optimizer: Optimizer = ADAMW
    alignment: Alignment = FULL
    lr_rule: LrRule = "per_layer"
    weight_decay: DecayRule = "linear_width"
    decay_convention: DecayConvention = "lr_coupled"
    readout_decay: ReadoutDecay = "as_hidden"
    embedding_decay: EmbeddingDecay = "none"
    epsilon: EpsilonRule | None = None
    lr_adjustment: LrAdjustment | None = None
    folded: bool = False

    def __post_init__(self) -> None:
        name, why = self.optimizer.name, self.optimizer.no_epsilon
        if why and self.epsilon not in (None, "none"):
            raise InputError(f"epsilon {self.epsilon}: {why}; leave epsilon out or give none")
        if not why and self.epsilon == "none":
            raise InputError(
                f"epsilon none: {name} divides by sqrt(v) + eps; give constant or "
                "per_layer, or take optimizer adam_atan2, which has no epsilon"
            )
        if self.lr_adjustment is not None and self.optimizer.family != "muon":
            raise InputError(f"lr_adjustment: is Muon's, {name} has none; leave it out")
        if self.weight_decay == "sqrt_width" and self.optimizer.family != "adam":
            raise InputError(
                f"weight decay sqrt_width: was observed in the steady state of AdamW and says "
                f"nothing of {name}; give linear_width, constant, none or an exponent"
            )
        if self.weight_decay == "sqrt_width" and self.decays("embedding"):
            raise InputError(
                "embedding_decay as_hidden: weight decay sqrt_width was observed for matrices with "
                "two growing axes and says nothing of embeddings; give linear_width, constant or "
                "an exponent, or embedding_decay none"
            )

    @property
    def effective_epsilon(self) -> EpsilonRule:
        return self.epsilon or ("none" if self.optimizer.no_epsilon else "constant")

    def decays(self, role: Role) -> bool:
        """Whether the weights of a role decay, unless the rule of weight decay is `none`."""
        decay = {"embedding": self.embedding_decay, "readout": self.readout_decay}
        return role == "hidden" or decay.get(role) == "as_hidden"

    @property
    def rates(self) -> LearningRates:
        return derive_rates(
            self.parameterization, self.optimizer, self.alignment, self.lr_adjustment or "original"
        )

    @property
    def expected_base_lr_exponent(self) -> Fraction:
        """x in optimal base rate ~ n^x: 0 if every role is scaled, -max(c) for a global rate."""
        return Fraction(0) if self.lr_rule == "per_layer" else -max(self.rates.c.values())


@dataclass(frozen=True)
class RoleExponents:
    """Exponents x of a role: a quantity scales as (n / base_width)^x; None where it does not exist.

    Attributes:
        weight_decay: in the rule's convention.
        eps: Adam's epsilon.
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
    decay = decay_exponent(rule.weight_decay, rule.decay_convention, c, layer.a)
    plain = RoleExponents(
        init_std=-layer.b,
        multiplier=-layer.a,
        lr=ZERO if rule.lr_rule == "global" else -c,
        weight_decay=decay if rule.decays(role) else None,
        eps=_eps_exponent(rule, role, gradient),
        gradient=gradient,
    )
    return fold(plain, rule, role, layer.a) if rule.folded else plain


def _of_vector(rule: Rule, role: Role) -> RoleExponents:
    """Treat a vector as an embedding without multiplier; a scalar does not depend on width."""
    lr, gradient = ZERO, None
    if role == "vector":
        layers = PARAMETERIZATIONS[rule.parameterization]
        gradient = layers["embedding"].a - gradient_exponents(layers)["embedding"]
        if rule.lr_rule == "per_layer":
            t = layers["embedding"].a
            lr = -rule.rates.c["embedding"] - rule.optimizer.rescalings("embedding") * t
    eps = _eps_exponent(rule, role, gradient or ZERO)
    return RoleExponents(ZERO, ZERO, lr, None, eps, gradient)


def _eps_exponent(rule: Rule, role: Role, gradient: Fraction) -> Fraction | None:
    """eps_r = eps * (n / base_width)^-g under `per_layer`; orthogonalised matrices have none."""
    if rule.effective_epsilon == "none" or rule.optimizer.family_of(role) == "muon":
        return None
    return gradient if rule.effective_epsilon == "per_layer" else ZERO


def fold(x: RoleExponents, rule: Rule, role: MatrixRole, t: Fraction) -> RoleExponents:
    """Move n^t out of the multiplier: (a, b, c) becomes (a - t, b + t, c + t), training unchanged.

    The weight becomes n^-t times as large, its gradient n^t times. SGD's c moves by 2t, Adafactor's
    stays. Lr-coupled decay moves against its rate, so that lr * wd stays; independent decay stays.
    t = a removes the multiplier (Yang & Hu 2022, arXiv 2203.03466, Lemma J.1).
    """
    shift = rule.optimizer.rescalings(role) * t
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


def folding_limits(
    rule: Rule, clip: bool, width_mult: float | None = None, tied: bool | None = None
) -> tuple[str, ...]:
    """Say where a folded model differs from the model with multipliers, and by how much.

    Args:
        clip: whether the gradient is clipped by its global norm.
        width_mult: target width over base width; without it, factors are written as its powers.
        tied: whether the model's embedding is its readout, which then has none; None if that is
            not known.
    """
    factors: dict[Role, str] = {
        role: _power(layer.a, width_mult)
        for role, layer in PARAMETERIZATIONS[rule.parameterization].items()
        if layer.a and not (tied and role == "readout")
    }
    own_eps = rule.effective_epsilon != "none"
    family = rule.optimizer.family_of
    limits = []
    if clip and factors:
        limits.append(
            "gradient clipping will act at a different threshold: the folded "
            f"{_times(factors, 'counts ')}; turn clipping off, or use --no-fold"
        )
    if adam := {role: factors[role] for role in factors if own_eps and family(role) == "adam"}:
        limits.append(
            f"each role needs its own eps ({_times(adam)} that of the unfolded model): one eps for "
            "all parameters is off by that factor"
        )
    if floor := {role: factors[role] for role in factors if family(role) == "adafactor"}:
        limits.append(
            "Adafactor's floor under the parameter scale moves against folded weights "
            f"({_times(floor)} as high)"
        )
    if tied is None and factors.keys() - {"hidden"}:
        limits.append(
            "a weight that is tied to another cannot be folded: untie it, or use --no-fold"
        )
    return tuple(limits)


def _times(factors: Mapping[Role, str], verb: str = "") -> str:
    """Factors in a sentence: `embedding 0.25 times and readout 4 times`."""
    return " and ".join(f"{role} {verb}{factor} times" for role, factor in factors.items())


def folds_exactly(rule: Rule, clip: bool) -> bool:
    """Whether a folded model trains exactly as the unfolded one, with values by role.

    Args:
        clip: whether the gradient is clipped by its global norm.
    """
    moved = [role for role, layer in PARAMETERIZATIONS[rule.parameterization].items() if layer.a]
    return not clip and all(rule.optimizer.family_of(role) != "adafactor" for role in moved)


def _power(exponent: Fraction, width_mult: float | None) -> str:
    if width_mult is None:
        return f"width_mult^{exponent}"
    return f"{width_mult ** float(exponent):.3g}"


def decaying_inside(rule: Rule) -> Rule:
    """The rule of an embedding inside the model, which decays as hidden matrices do.

    It is that of `embedding_decay: as_hidden`, under which its own rate counts. `sqrt_width` says
    nothing of a fixed fan-in, so that `linear_width` is assumed in its place.
    """
    decay = "linear_width" if rule.weight_decay == "sqrt_width" else rule.weight_decay
    return replace(rule, weight_decay=decay, embedding_decay="as_hidden")


def output_exponent(rule: Rule, own: Fraction = ZERO) -> Fraction:
    """x of a tied embedding, which acts as readout times (n / base_width)^x in place of its
    multiplier, so that its updates move the logits as those of the rule's readout do.

    The readout's updates n^-c are multiplied by n^-a, the embedding's by n^x: x = c_embedding - c -
    a. For mup that is -1/2, and with the embedding's multiplier 1/2 moved into the weight -1, as in
    Yang & Hu 2022 (arXiv 2203.03466), Table 8.

    Args:
        own: exponent of width in the factor that the model's own code puts on the embedding.
    """
    layers = PARAMETERIZATIONS[rule.parameterization]
    x = -layers["readout"].a
    if rule.lr_rule == "per_layer":
        x += rule.rates.c["embedding"] - rule.rates.c["readout"]
    return x + layers["embedding"].a + own if rule.folded else x


def tied_exponents(rule: Rule) -> RoleExponents:
    """The exponents of an embedding that is the readout too: the embedding's, and an init at which
    the logits are not larger than those of the rule's readout."""
    x, readout = (
        role_exponents(rule, "embedding"),
        PARAMETERIZATIONS[rule.parameterization]["readout"],
    )
    logits = -(readout.a + readout.b)
    return replace(x, init_std=min(x.init_std, logits - output_exponent(rule)))


def refuse_tied(rule: Rule, has_output_multiplier: bool = True) -> None:
    """Refuse a rule that one weight cannot follow as embedding and as readout.

    Args:
        has_output_multiplier: whether the weight can have one multiplier as embedding and another
            as readout; that of the built-in model has one for both, and its decay is the readout's.

    Raises:
        InputError: a rule that decays the embedding and not the readout; whose updates depend on
            the gradient or on the weight, of which both uses have a share that multipliers change;
            or, for one multiplier, a rule that gives the two different multipliers or rates.
    """
    if rule.decays("embedding") and not rule.decays("readout"):
        raise InputError(
            "tied_embeddings: embedding_decay as_hidden with readout_decay none, and one weight "
            "decays or does not; give both the same"
        )
    unfolded = replace(rule, folded=False)
    embedding, readout = (role_exponents(unfolded, role) for role in ("embedding", "readout"))
    differences = {
        "multiplier": (embedding.multiplier, readout.multiplier),
        "lr": (embedding.lr, readout.lr),
    }
    different = [(what, *both) for what, both in differences.items() if both[0] != both[1]]
    if different and has_output_multiplier:
        family = rule.optimizer.family_of("embedding")
        if family != "adam":
            raise InputError(
                f"tied weights: under {rule.parameterization} with lr_rule {rule.lr_rule} one "
                "weight has one multiplier as embedding and another as readout, and the updates of "
                f"{rule.optimizer.name} are of no fixed size under them; take an Adam-like "
                "optimizer or muon, untie the weights, or take standard with lr_rule global"
            )
        return
    for quantity, one, other in different:
        raise InputError(
            f"tied_embeddings: {rule.parameterization} with lr_rule {rule.lr_rule} gives the "
            f"embedding a {quantity} of width^{one} and the readout one of width^{other}, and "
            "one weight has one; take standard with lr_rule global, or leave it out"
        )
