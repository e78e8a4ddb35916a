"""A rule and a plan as documents: exponents by role, values by parameter, sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import Any

from mutransfer_cli.rules.choices import ALIGNMENTS, ROLES, Role
from mutransfer_cli.rules.plan import AxisName, BaseParameter, PlannedParameter, rule_of
from mutransfer_cli.rules.rule import Rule, folding_limits, role_exponents
from mutransfer_cli.rules.weight_decay import decay_source

EVERETT = "Everett et al. 2024 (arXiv 2407.05872)"
READOUT_ASSUMED = "; that the readout decays as hidden does is assumed"
INSIDE_ASSUMED = "; that a matrix of fixed fan-in inside the model decays as hidden does is assumed"
YANG = "Yang & Hu 2022 (arXiv 2203.03466), Table 8"
EMBEDDING_ASKED = (
    "; embeddings decay too, as in the code of muP (microsoft/mup) and of CompleteP "
    "(EleutherAI/nanoGPT-mup), where their rate and decay are the same at all widths"
)


def assumed_decay(role: Role) -> str:
    """The grounds on which a role other than hidden decays, to follow the source of the rule."""
    grounds = {"embedding": EMBEDDING_ASKED, "readout": READOUT_ASSUMED}
    return grounds.get(role, "")


def decay_grounds(rule: Rule, parameter: BaseParameter) -> str:
    """The source of a parameter's weight decay, with the grounds on which its role decays."""
    source = decay_source(rule_of(rule, parameter).weight_decay)
    if parameter.role != "embedding" or not parameter.in_block or rule.decays("embedding"):
        return source + assumed_decay(parameter.role)
    if rule.weight_decay == "sqrt_width":
        source += ", in place of sqrt_width, which says nothing of a fixed fan-in"
    return source + INSIDE_ASSUMED


def rule_document(rule: Rule) -> dict[str, Any]:
    """Settings, exponents of width by role (null where a quantity does not exist) and sources."""
    limits = folding_limits(rule, clip=True) if rule.folded else ()
    return {
        "settings": rule_settings(rule),
        "roles": {
            role: {key: number(x) for key, x in asdict(role_exponents(rule, role)).items()}
            for role in ROLES
        },
        "expected_base_exponent": number(rule.expected_base_lr_exponent),
        "features_exponent": number(-rule.rates.features),
        "sources": rule_sources(rule),
        "folding_limits": list(limits),
    }


def number(x: Fraction | None) -> int | float | None:
    """An exponent as a number of JSON."""
    if x is None:
        return None
    return int(x) if x.denominator == 1 else float(x)


def rule_settings(rule: Rule) -> dict[str, Any]:
    """Every choice, under its name in a spec."""
    settings = {
        "parameterization": rule.parameterization,
        "optimizer": rule.optimizer.name,
        "alignment": alignment_name(rule),
        "lr_rule": rule.lr_rule,
        "weight_decay": str(rule.weight_decay),
        "decay_convention": rule.decay_convention,
        "readout_decay": rule.readout_decay,
        "embedding_decay": rule.embedding_decay,
        "epsilon": rule.effective_epsilon,
        "folded": rule.folded,
    }
    if rule.optimizer.family == "muon":
        settings["lr_adjustment"] = rule.lr_adjustment or "original"
    return settings


def alignment_name(rule: Rule) -> str:
    return next((name for name, known in ALIGNMENTS.items() if known == rule.alignment), "custom")


def rule_sources(rule: Rule) -> dict[str, str]:
    """The source of each quantity's exponents."""
    lr = f"derived from the stability constraints of {EVERETT}, {alignment_name(rule)} alignment"
    if rule.lr_rule == "global":
        lr = f"one global rate; its optimum is expected to scale as width^-max(c), {lr}"
    if rule.optimizer.family == "muon":
        lr += "; hidden: an orthogonal update, of entries n^-1/2, preserves norms"
        if rule.lr_adjustment == "match_rms_adamw":
            lr += ", times n^1/2 by the adjustment"
    decay = decay_source(rule.weight_decay)
    if rule.weight_decay != "none":
        decay += "".join(assumed_decay(role) for role in ROLES if rule.decays(role))
    eps = {
        "constant": "the same for all roles and widths",
        "per_layer": f"eps ~ the role's gradient; {EVERETT} compares it with adam_atan2",
        "none": f"{rule.optimizer.name} has none",
    }[rule.effective_epsilon]
    sources = {
        "init_std, multiplier": f"{EVERETT}, Table 1",
        "lr": lr,
        "weight_decay": decay,
        "eps": eps,
        "gradient": "backward pass at init; that of a scalar depends on where the scalar stands",
    }
    if rule.folded:
        sources["folded"] = "multipliers moved into the others (Yang & Hu 2022, arXiv 2203.03466)"
    return sources


def plan_document(
    planned: Sequence[PlannedParameter],
    settings: Mapping[str, Any],
    base_width: int,
    width: int,
    axes: Mapping[AxisName, float],
) -> dict[str, Any]:
    """Every parameter with its values; weight decay in both conventions."""
    return {
        "settings": dict(settings),
        "base_width": base_width,
        "width": width,
        "base": dict(axes),
        "parameters": [
            {
                "name": p.name,
                "role": p.role,
                "shape": list(p.shape),
                "init_mean": p.init_mean,
                "init_std": p.init_std,
                "multiplier": p.multiplier,
                **_of_a_tied_weight(p),
                **({"keeps_draw": True} if p.keeps_draw else {}),
                "lr": p.lr,
                "weight_decay": {
                    "lr_coupled": p.weight_decay,
                    "independent": p.independent,
                },
                "eps": p.eps,
            }
            for p in planned
        ],
    }


def _of_a_tied_weight(planned: PlannedParameter) -> dict[str, float]:
    found = planned.output_multiplier
    return {} if found is None else {"output_multiplier": found}
