"""The optimizers inside wrappers, and the update that each of their groups gets.

An update is known by the name of its class: memory and precision may differ (fused, paged, 8-bit),
the update may not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from mutransfer_cli.optim.listed import OptimizerName

# packages whose wrappers step the optimizer inside as it is; apex's LARC, for one, changes the rate
FAITHFUL = frozenset(
    {"accelerate", "deepspeed", "fairscale", "lightning", "lightning_fabric", "megatron"}
    | {"pytorch_lightning", "torch", "torchtitan"}
)
SEVERAL = ("chained_optimizers", "optimizers")  # Megatron, torchtitan
INNER = ("optimizer", "_optimizer", "optim", "base_optimizer", "_base_optimizer")

UPDATES = {
    "Adam": "adam",
    "AdamW": "adamw",
    "AdamAtan2": "adam_atan2",
    "Lion": "lion",
    "SGD": "sgd",
    "Adafactor": "adafactor",
    "Muon": "muon",
}
ADORNED = re.compile(
    "_?(?:AnyPrecision|CPU|DeepSpeed|Dist|Distributed|Fused|Hybrid|MixedPrecision|Paged"
    "|SingleDevice|SkipStep|TensorParallel)*"
    f"({'|'.join(UPDATES)})"
    "(?:_?(?:[0-9]+bit|BF16|F[pP]8))*"
)
MIXED = re.compile("(?:Dist|SingleDevice)?Muon(?:WithAuxAdam|AdamW)?")  # groups of two updates
MARKS = ("algorithm", "kind")  # name the update of a group: Dion's package, nanochat

# keys of a group that change the update itself, and the value under which they do not
NEUTRAL: dict[str, dict[str, Any]] = {
    "": {"amsgrad": False, "maximize": False, "bias_correction": True},
    "sgd": {"nesterov": False, "dampening": 0},
    "muon": {"nesterov": True},
    "adam_atan2": {"cautious_wd": False, "cautious_factor": 1.0, "regen_reg_rate": 0.0},
    "adafactor": {"relative_step": False, "scale_parameter": True, "beta1": None},
}
# settings of a recipe's optimizer, and the key of a group that holds them
OWN_SETTINGS = {
    "sgd": {"momentum": "momentum"},
    "muon": {"momentum": "momentum", "lr_adjustment": "adjust_lr_fn"},
    "adam_atan2": {"a": "a", "b": "b"},
    "adafactor": {"beta2_decay": "beta2_decay"},
}


class Grouped(Protocol):
    """An optimizer, or a wrapper of optimizers: parameters with their settings, by group."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, eq=False)
class Held:
    """A group of parameters, and the optimizer that updates it."""

    group: dict[str, Any]
    optimizer: Any

    @property
    def class_name(self) -> str:
        """The class of the optimizer with its module, as it is imported."""
        cls = type(self.optimizer)
        return f"{cls.__module__}.{cls.__qualname__}"

    @property
    def update(self) -> OptimizerName | None:
        """Name of the update in the recipe's list; None for a class that nobody knows."""
        if MIXED.fullmatch(type(self.optimizer).__name__):
            if "use_muon" in self.group:
                return "muon" if self.group["use_muon"] else "adamw"
            for mark in MARKS:
                if mark in self.group:
                    return str(self.group[mark]) if self.group[mark] in UPDATES.values() else None
        found = _class_match(self.optimizer)
        return None if found is None else UPDATES[found]

    @property
    def adds_decay_to_gradient(self) -> bool:
        """Whether weight decay passes through the optimizer's means of the gradient."""
        for key in ("decoupled_weight_decay", "weight_decouple"):
            if self.group.get(key) is not None:
                return not self.group[key]
        for attribute in ("adam_w_mode", "adamw_mode", "is_adamw"):  # apex, DeepSpeed, torchao
            said = getattr(self.optimizer, attribute, None)
            if said is not None:
                return not said
        found = _class_match(self.optimizer)
        # bitsandbytes' Adam is its AdamW
        return found == "SGD" or (found == "Adam" and package(self.optimizer) != "bitsandbytes")


def package(thing: object) -> str:
    """The package that the thing's class is from."""
    return type(thing).__module__.partition(".")[0]


def has_groups(thing: object) -> bool:
    """Whether it holds groups of parameters as torch's optimizers do."""
    return isinstance(getattr(thing, "param_groups", None), list)


def layers(optimizer: Any) -> list[Any]:
    """The optimizer and all optimizers inside it."""
    return [optimizer, *(layer for inner in _inside(optimizer) for layer in layers(inner))]


def held_groups(optimizer: Any) -> list[Held]:
    """The groups by which parameters are updated, those of the innermost optimizers.

    A wrapper may hold copies of its own, which trains nothing.
    """
    inner = _inside(optimizer)
    if not inner:
        return [Held(group, optimizer) for group in optimizer.param_groups]
    found = [held for each in inner for held in held_groups(each)]
    # ZeRO: the inner optimizer has this rank's parameters, and takes over the settings at each step
    if hasattr(optimizer, "_sync_param_groups") and found:
        return [Held(group, found[0].optimizer) for group in optimizer.param_groups]
    if package(optimizer) not in FAITHFUL:
        return [Held(held.group, optimizer) for held in found]
    return found


def _inside(optimizer: Any) -> list[Any]:
    for name in SEVERAL:
        several = getattr(optimizer, name, None)
        if isinstance(several, list | tuple):
            return [each for each in several if has_groups(each)]
    for name in INNER:
        inner = getattr(optimizer, name, None)
        if inner is not optimizer and has_groups(inner):
            return [inner]
    return []


def _class_match(optimizer: object) -> str | None:
    """The name of the update in the name of the class, or of the one whose `step` it inherits."""
    for cls in type(optimizer).__mro__:
        if found := ADORNED.fullmatch(cls.__name__):
            return found[1]
        step = vars(cls).get("step")
        if getattr(step, "__qualname__", None) == f"{cls.__qualname__}.step":
            return None
    return None


def other_settings(held: Held, update: str, wanted: dict[str, Any]) -> Iterator[str]:
    """Describe settings that change the update beside lr, weight decay, eps and betas, in words.

    Args:
        wanted: settings of the recipe's optimizer.
    """
    for key, neutral in (NEUTRAL[""] | NEUTRAL.get(update, {})).items():
        if held.group.get(key, neutral) != neutral:
            yield f"{key} is {held.group[key]}, in the recipe's runs it was {neutral}"
    for setting, key in OWN_SETTINGS.get(update, {}).items():
        if setting in wanted and key in held.group:
            # torch.optim.Muon: None is its "original"
            found = "original" if held.group[key] is None else held.group[key]
            if found != wanted[setting]:
                yield f"{key} is {found}, the recipe says {wanted[setting]}"
