"""The model to be trained, as its config or its factory has it: nothing of its width is held.

MERGED:
The model that a recipe is for, built to be held against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import AnyProtocol, Exponents
from mutransfer_cli.proxies.build import builder, read_built
from mutransfer_cli.proxies.calling import OwnCode, own_code, run_once
from mutransfer_cli.proxies.factory import factory_builder, for_real, on_meta
from mutransfer_cli.proxies.hf import hf_builder, own_multiplier, say_what_is_used
from mutransfer_cli.proxies.reading import Init, Note, Weight, read_inits, read_weights, silent
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import BaseParameter, TargetModel
from mutransfer_cli.spec.model import FactoryProtocol, FactorySpec, HfProtocol
from mutransfer_cli.spec.sources import load_model
from mutransfer_cli.strict import parse_count

HF_CONTEXT = 8  # tokens of the pass that finds the readout


def read_target(
    name: str,
    width: int | None,
    said: Mapping[str, str],
    exponents: Exponents,
    note: Note = silent,
) -> TargetModel:
    """Its base model is built for real, itself on the meta device.

    Args:
        name: a config.json, `package.module:function`, or a YAML file with the `model` of a spec.
        width: of a factory's model; a config says its own.
        said: of the target, by key of `holds_for`; vocab and context of a factory's model, those
            of the proxies where not given.
        exponents: with the protocol, whose `roles`, `args` and `untie` hold for the same kind of
            model.

    Raises:
        InputError: no such model, a width too many or too few, or one that no plan can be made of.
    """
    protocol = exponents.protocol
    if protocol is None:
        raise InputError(
            "--model: the exponents hold no protocol; declare one with `fit-exponents --protocol "
            "FILE`"
        )
    spec, folder = load_model(name)
    if isinstance(spec, FactorySpec):
        return _of_factory(spec, width, said, protocol, note)
    config = spec.config(folder)
    if not isinstance(config.get("vocab_size"), int):
        raise InputError(f"--model {name}: says no vocab_size; give the config of the target")
    swept = protocol.model if isinstance(protocol.model, HfProtocol) else None
    model = HfProtocol(
        hf=config,
        untie=spec.untie or (swept is not None and swept.untie),
        roles=spec.roles or (swept.roles if swept else {}),
        vocab=config["vocab_size"],
    )
    return _of_config(model, name, width, protocol.parameterization.base_width, note)


def _of_config(
    model: HfProtocol, name: str, width: int | None, base_width: int, note: Note
) -> TargetModel:
    own = model.width
    if own is None:
        raise InputError(f"--model {name}: says no hidden_size; give the config of the target")
    if width not in (None, own):
        raise InputError(f"--width {width}: {name} has hidden_size {own}; leave one of them out")
    say_what_is_used(model, False, note)
    build = hf_builder(model, HF_CONTEXT, base_width, to_train=False)
    target = on_meta(build, own)
    other = target if own != base_width else None
    reading = read_built(model, build, HF_CONTEXT, base_width, note, other)
    return TargetModel(
        own,
        reading.base_plan,
        {key: tuple(parameter.shape) for key, parameter in target.named_parameters()},
        {"depth": model.depth, "head_size": model.head_size, "vocab": model.vocab},
        model.model_type == "llama",
    )


def _of_factory(
    spec: FactorySpec,
    width: int | None,
    said: Mapping[str, str],
    protocol: AnyProtocol,
    note: Note,
) -> TargetModel:
    if width is None:
        raise InputError(f"--model {spec.factory}: is a function of width; give --width too")
    swept, base_width = protocol.model, protocol.parameterization.base_width
    proxies = swept if isinstance(swept, FactoryProtocol) else None
    if proxies is not None and proxies.factory != spec.factory:
        proxies = None
    model = FactoryProtocol(
        factory=spec.factory,
        args=(proxies.args if proxies else {}) | spec.args,
        roles=spec.roles or (proxies.roles if proxies else {}),
        vocab=_size("vocab", said, swept.vocab),
    )
    context = _size("context", said, protocol.train.context)
    build = factory_builder(model, context)
    target = on_meta(build, width)
    other = target if width != base_width else None
    reading = read_built(model, build, context, base_width, note, other)
    shapes = {key: tuple(parameter.shape) for key, parameter in target.named_parameters()}
    return TargetModel(width, reading.base_plan, shapes)


def _size(key: str, said: Mapping[str, str], of_proxies: int | None) -> int:
    if key in said:
        try:
            found = parse_count(said[key])
        except ValueError as error:
            raise InputError(f"--target {key}: {error}") from error
        return int(found)
    if of_proxies is None:
        raise InputError(f"--model: the protocol does not say {key}; give --target {key}=N")
    return of_proxies


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
