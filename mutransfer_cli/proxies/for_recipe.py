"""The model that a recipe is for, built to be held against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.files.model import FactoryProtocol, FactorySpec, HfProtocol
from mutransfer_cli.files.recipe import Recipe
from mutransfer_cli.files.sources import load_model
from mutransfer_cli.proxies.build import builder
from mutransfer_cli.proxies.factory import for_real, on_meta
from mutransfer_cli.proxies.hf import hf_builder, own_multiplier
from mutransfer_cli.proxies.init import Init, Note, read_inits, silent
from mutransfer_cli.proxies.own_code import OwnCode, own_code
from mutransfer_cli.proxies.reading import Weight, read_weights
from mutransfer_cli.proxies.target import HF_CONTEXT
from mutransfer_cli.proxies.trial_run import run_once
from mutransfer_cli.rules.plan import BaseParameter
from mutransfer_cli.rules.roles import Role

APART = 4  # times the base width
Shape = tuple[int, ...]


@dataclass(frozen=True)
class BuiltTarget:
    """
    Attributes:
        module: itself, on the meta device where it can be.
        weights: every trainable parameter under all its names, at the base width and `APART` times
            that.
        readout: the matrix that makes its output, where that can be told.
        inits: its own, at the base width and at `APART` times that; of a config the first alone,
            as its code does not scale it.
        code: what its own code does, at the same widths.
    """

    model: FactoryProtocol | HfProtocol
    module: nn.Module
    weights: list[list[Weight]]
    readout: str | None
    inits: tuple[Mapping[str, Init], ...]
    code: tuple[OwnCode, ...]

    @property
    def shapes(self) -> dict[str, Shape]:
        """By name, at the width of the recipe."""
        return {name: tuple(p.shape) for name, p in self.module.named_parameters()}

    def weight(self, name: str) -> Weight:
        """By first name."""
        return next(names[0] for names in self.weights if names[0].name == name)

    def base_plan(self, roles: Mapping[str, Role]) -> tuple[BaseParameter, ...]:
        """
        Args:
            roles: by first name; what is left out is no part of the plan.
        """
        model, plan = self.model, []
        for first, *_ in self.weights:
            if first.name not in roles:
                continue
            init = self.inits[0][first.name]
            matrix = first.is_matrix and not first.depthwise
            found = BaseParameter(
                first.name,
                roles[first.name],
                first.shape,
                first.growing_axes,
                init.std,
                init.mean,
                first.fan_in_axis if matrix else None,
            )
            if isinstance(model, HfProtocol):
                found = replace(found, own_multiplier=own_multiplier(model, first.name))
            plan.append(found)
        return tuple(plan)


def declared_model(name: str, recipe: Recipe) -> tuple[FactoryProtocol | HfProtocol, int]:
    """The model and how many tokens it is tried on.

    Args:
        name: a config.json, `package.module:function`, or a YAML file with the `model` of a spec;
            vocab and context of a function are those of the fit where its args do not say them.

    Raises:
        InputError: no such model, or sizes that nobody says.
    """
    spec, folder = load_model(name)
    if not isinstance(spec, FactorySpec):
        config = spec.config(folder)
        vocab = config.get("vocab_size")
        if not isinstance(vocab, int):
            raise InputError(f"--model {name}: says no vocab_size; give the config of the target")
        return HfProtocol(hf=config, untie=spec.untie, roles=spec.roles, vocab=vocab), HF_CONTEXT
    holds = recipe.holds_for
    sizes = []
    for key in ("vocab", "context"):
        size = spec.args.get(key, getattr(holds, key) if holds else None)
        if not isinstance(size, int):
            raise InputError(
                f"--model {name}: the recipe does not say {key}; give it as args: {{{key}: N}} in "
                "a YAML file with factory"
            )
        sizes.append(size)
    vocab, context = sizes
    model = FactoryProtocol(factory=spec.factory, args=spec.args, roles=spec.roles, vocab=vocab)
    return model, context


def build_target(
    model: FactoryProtocol | HfProtocol,
    context: int,
    width: int,
    base_width: int,
    note: Note = silent,
) -> BuiltTarget:
    """
    Raises:
        InputError: it cannot be built at one of the widths, or does not grow.
    """
    is_config = isinstance(model, HfProtocol)
    if isinstance(model, HfProtocol):
        build = hf_builder(model, context, base_width, to_train=False)
    else:
        build = builder(model, context, base_width)
    base = for_real(build, base_width)
    wider = (on_meta if is_config else for_real)(build, APART * base_width)
    real = (base,) if is_config else (base, wider)
    weights = read_weights(base, wider)
    readout = run_once(base, context, model.vocab).readout
    return BuiltTarget(
        model,
        on_meta(build, width),
        weights,
        readout,
        tuple(read_inits(module, note) for module in real),
        tuple(own_code(module, readout, context, model.vocab) for module in real),
    )
