"""The model that a recipe is for: a config.json, `package.module:function`, or a YAML file.

`read_target` plans a model for a recipe that is to be made; `build_target` builds one to be
compared with a recipe that was made. Nothing of the target's width is held in memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from mutransfer_cli.data.own import own_example
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.proxies.build import Build, read_built
from mutransfer_cli.proxies.calling import OwnCode, makes_queries, own_code, run_once
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.proxies.factory import factory_builder, for_real, on_meta
from mutransfer_cli.proxies.hf import hf_builder, with_defaults
from mutransfer_cli.proxies.hf_notes import say_what_is_used
from mutransfer_cli.proxies.inits import Init, read_inits
from mutransfer_cli.proxies.reading import Note, Weight, read_weights, shapes_of, silent
from mutransfer_cli.proxies.roles import Finding, base_parameter
from mutransfer_cli.recipe.build import NO_PROTOCOL
from mutransfer_cli.recipe.inits import QUERY
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import BaseParameter, Shapes, TargetModel
from mutransfer_cli.spec.data import OwnDataProtocol
from mutransfer_cli.spec.model import (
    AnyModel,
    FactoryProtocol,
    FactorySpec,
    HfProtocol,
    HfSizes,
    HfSpec,
)
from mutransfer_cli.spec.own_factors import BY_WIDTH
from mutransfer_cli.spec.protocol import DeclaredModel, Protocol
from mutransfer_cli.spec.sources import load_model
from mutransfer_cli.strict import parse_count

HF_CONTEXT = 8  # tokens of the pass that finds a config's readout
APART = 4  # the wider model's width over the base width
NO_CHANGE = HfSizes()

Sizes = Mapping[str, int | None]  # vocab and context


@dataclass(frozen=True)
class NamedModel:
    """A model that was found by its name."""

    name: str
    """Its name, as the user gave it."""
    protocol: FactoryProtocol | HfProtocol
    context: int
    """Length of the sequence that it is run on, in tokens."""
    fitted: HfSizes = NO_CHANGE
    """Sizes in which the fitted models differ from a config."""

    def builder(self, base_width: int) -> Build:
        """The function from width to module."""
        if isinstance(self.protocol, HfProtocol):
            return hf_builder(self.protocol, self.context, base_width, to_train=False)
        return factory_builder(self.protocol, self.context)

    def small_builder(self, base_width: int) -> Build:
        """The same for widths of the fitted models, with heads of their size."""
        model = self.protocol
        if not isinstance(model, HfProtocol) or self.fitted == NO_CHANGE:
            return self.builder(base_width)
        sizes = self.fitted.model_copy(update={"depth": model.sizes.depth})
        small = model.model_copy(update={"sizes": sizes})
        return hf_builder(small, self.context, base_width, to_train=False)


def named_model(
    name: str, sizes: Sizes, swept: AnyModel | DeclaredModel | None = None
) -> NamedModel:
    """The model that `name` names.

    Args:
        name: a config.json, `package.module:function`, or a YAML file with the `model` of a spec.
        sizes: vocab and context of a function's model, where its args do not hold them.
        swept: the proxies' model, whose `roles`, `args` and `untie` also hold for a model of the
            same kind; a function must be the same one.

    Raises:
        InputError: no such model, or a size that is not known.
    """
    spec, folder = load_model(name)
    if not isinstance(spec, FactorySpec):
        config, like = spec.config(folder), swept if isinstance(swept, HfProtocol) else None
        vocab = config.get("vocab_size")
        if not isinstance(vocab, int):
            raise InputError(
                f"model {name}: has no vocab_size; give the config of the target", setting="model"
            )
        untie = spec.untie or (like is not None and like.untie)
        own, fitted = spec.sizes(), like.sizes if like else NO_CHANGE
        known = HfProtocol(
            hf=config, untie=untie, vocab=vocab, sizes=own, **_by_pattern(spec, like)
        )
        return NamedModel(name, known, HF_CONTEXT, fitted)
    same = swept if isinstance(swept, FactoryProtocol) and swept.factory == spec.factory else None
    args = (same.args if same else {}) | spec.args
    found: dict[str, int] = {}
    # the proxies were trained on samples of the user's own, which have neither
    of_samples = (sizes["vocab"], sizes["context"]) == (None, 1) and (
        swept is None or isinstance(swept, FactoryProtocol)
    )
    for key in () if of_samples else ("vocab", "context"):
        size = args.get(key, sizes[key])
        if not isinstance(size, int):
            raise InputError(
                f"model {name}: its {key} is not known; give it as args: {{{key}: N}} in a YAML "
                "file with factory",
                setting="model",
            )
        found[key] = size
    model = FactoryProtocol(
        factory=spec.factory, args=args, vocab=found.get("vocab"), **_by_pattern(spec, same)
    )
    return NamedModel(name, model, found.get("context", 1))


def _by_pattern(spec: FactorySpec | HfSpec, swept: FactoryProtocol | HfProtocol | None) -> Any:
    """The settings of a model by patterns of names, by default those of the proxies."""
    return {
        key: getattr(spec, key) or (getattr(swept, key) if swept else {})
        for key in ("roles", "own_multipliers")
    }


def read_target(
    name: str,
    width: int | None,
    settings: Mapping[str, str],
    exponents: Exponents,
    note: Note = silent,
) -> TargetModel:
    """Plan a model that a recipe is to be made for; it is built on the meta device.

    Args:
        name: as `named_model` takes it.
        width: width of a function's model; a config holds its own.
        settings: of the target run, by key of `holds_for`; vocab and context are those of a
            function's model, by default the proxies'.
        exponents: a fit with its protocol.

    Raises:
        InputError: no such model, a width that is missing or contradicts the config, or a model
            that cannot be planned.
    """
    protocol = exponents.protocol
    if protocol is None:
        raise InputError(NO_PROTOCOL, setting="model")
    sizes: Sizes = {"vocab": protocol.model.vocab, "context": protocol.train.context}
    target = named_model(
        name, {key: _size(key, settings, sizes[key]) for key in sizes}, protocol.model
    )
    model, base_width = target.protocol, protocol.parameterization.base_width
    facts: dict[str, int | None] = {}
    factors: dict[str, Any] = {}
    if isinstance(model, HfProtocol):
        width = _own_width(model, name, width)
        factors = fitted_factors(name, model, protocol.model, note)
        say_what_is_used(model, None, note)
        facts = {"depth": model.depth, "head_size": model.head_size, "vocab": model.vocab}
    elif width is None:
        raise InputError(
            f"model {name}: is a function of width; give its width too",
            setting="model",
            remedy="width",
        )
    if isinstance(protocol.model, DeclaredModel) and protocol.model.init_std is None:
        note(
            f"model {name}: the protocol does not say how the runs started (model.init_std); its "
            f"own init at base width {base_width} is taken"
        )
    module, build = on_meta(target.builder(base_width), width), target.small_builder(base_width)
    example = None
    if isinstance(protocol, Protocol) and isinstance(protocol.data, OwnDataProtocol):
        example = own_example(protocol.data, protocol.loss)
    reading = read_built(model, build, base_width, target.context, note, example)
    is_llama = isinstance(model, HfProtocol) and model.model_type == "llama"
    found = TargetModel(
        width, reading.base_plan, shapes_of(module), facts, is_llama, own_factors=factors
    )
    if isinstance(model, HfProtocol) and model.head_size and not reading.tried.why_not:
        base = for_real(build, base_width)
        return with_attention(found, base, reading.scales, model, target.fitted)
    return found


def fitted_factors(
    name: str, model: HfProtocol, swept: AnyModel | DeclaredModel, note: Note
) -> dict[str, Any]:
    """The fields by which a target's own code scales it, all as in the models of the fit.

    Raises:
        InputError: it scales with width, or otherwise than the models of the fit.
    """
    model = with_defaults(model)
    found, neutral = model.own_factors, model.neutral_factors
    by_width = [field for field in found if field in BY_WIDTH]
    if by_width:
        raise InputError(
            f"model {name}: its own code scales with width ({_listed(found, by_width)}) what the "
            "recipe scales too, so that rates, init or logits would scale twice; switch this off "
            f"in the config of the target ({_listed(neutral, by_width)})",
            setting="model",
        )
    if isinstance(swept, DeclaredModel):
        if found:
            note(
                f"model {name}: its own code scales activations ({_listed(found, found)}); the "
                "fitted runs are taken to have had the same factors"
            )
        return found
    fitted = with_defaults(swept).own_factors if isinstance(swept, HfProtocol) else {}
    if found != fitted:
        fields = [field for field in neutral if found.get(field) != fitted.get(field)]
        raise InputError(
            f"model {name}: its own code scales activations ({_listed(neutral | found, fields)}) "
            f"otherwise than the fitted models ({_listed(neutral | fitted, fields)}), so that it "
            "is another function, and their best rates and init are not its own; give it their "
            "factors, or sweep proxies of its config",
            setting="model",
        )
    return found


def _listed(factors: Mapping[str, Any], fields: Iterable[str]) -> str:
    """Fields with their values, as JSON with few digits."""
    texts = (
        f"{field} {value:.4g}" if isinstance(value, float) else f"{field} {json.dumps(value)}"
        for field in fields
        for value in (factors[field],)
    )
    return ", ".join(texts)


def with_attention(
    target: TargetModel,
    base: nn.Module,
    scales: frozenset[tuple[int, float]],
    model: HfProtocol,
    fitted: HfSizes,
) -> TargetModel:
    """The target with its own attention scale and the names of its query parameters, as seen in a
    forward pass at the base width; both are left out where torch's attention is not called.

    Args:
        base: with heads as in the fitted models; its scale has the ratio to 1/sqrt(d_head) that the
            target's has.
        scales: as `Reading.scales` of that model.
    """
    own = model.head_size
    small = fitted.head_size or own
    if len(scales) != 1 or next(iter(scales))[0] != small or not own or not small:
        return target
    scale = next(iter(scales))[1]
    scale = scale if small == own else scale * math.sqrt(small / own)
    names = frozenset(p.name for p in target.base_plan if QUERY.fullmatch(p.name))
    alone = makes_queries(base, names, HF_CONTEXT, model.vocab)
    return replace(target, attention=scale, queries=names if alone else frozenset())


def _own_width(model: HfProtocol, name: str, width: int | None) -> int:
    own = model.width
    if own is None:
        raise InputError(
            f"model {name}: has no hidden_size; give the config of the target", setting="model"
        )
    if width not in (None, own):
        raise InputError(
            f"width {width}: {name} has hidden_size {own}; leave one of them out", setting="width"
        )
    return own


def _size(key: str, settings: Mapping[str, str], default: int | None) -> int | None:
    if key not in settings:
        return default
    try:
        return int(parse_count(settings[key]))
    except ValueError as error:
        raise InputError(f"target {key}: {error}", setting="target") from error


@dataclass(frozen=True)
class BuiltTarget:
    """A model with what its own code does, to be compared with a recipe."""

    model: FactoryProtocol | HfProtocol
    module: nn.Module
    """The model itself, on the meta device where it can be."""
    weights: list[list[Weight]]
    """Every trainable parameter under all its names, at the base width and `APART` times that."""
    readout: str | None
    """Name of the matrix that makes its output, where it could be found."""
    found: Mapping[str, BaseParameter]
    """Its parameters as a sweep would plan them, by first name; empty where none can be planned."""
    why_not: str
    """Why it cannot be planned; empty if it can."""
    inits: tuple[Mapping[str, Init], ...]
    """Its own init at the base width and at `APART` times that; for a config at the base width
    alone, as its code does not scale it."""
    code: tuple[OwnCode, ...]
    """What its own code does, at the same widths."""

    @property
    def shapes(self) -> Shapes:
        """Shape of every parameter by name, at the width of the recipe."""
        return shapes_of(self.module)

    def weight(self, name: str) -> Weight:
        """The weight of this first name."""
        return next(names[0] for names in self.weights if names[0].name == name)

    def base_plan(self, roles: Mapping[str, Role]) -> tuple[BaseParameter, ...]:
        """The base plan of the parameters that have a role, by first name, in `roles`.

        A function's own factors may be those of the recipe, with which they are compared.
        """
        plan = []
        for first, *_ in self.weights:
            if first.name in roles:
                role, init = roles[first.name], self.inits[0][first.name]
                known = self.found.get(first.name)
                if known is None or known.role != role:
                    axes = () if first.fan_in_axis is None else (first.fan_in_axis,)
                    known = base_parameter(first, Finding(role, axes), init)
                elif not isinstance(self.model, HfProtocol):
                    known = replace(known, own_multiplier=0.0, own_output_multiplier=0.0)
                plan.append(known)
        return tuple(plan)


def build_target(
    target: NamedModel, width: int, base_width: int, note: Note = silent
) -> BuiltTarget:
    """Build a model at the base width and a wider one, and observe what its code does at each.

    Raises:
        InputError: it cannot be built at one of the widths, or does not grow.
    """
    model, context, build = target.protocol, target.context, target.small_builder(base_width)
    is_config = isinstance(model, HfProtocol)
    base = for_real(build, base_width)
    wider = (on_meta if is_config else for_real)(build, APART * base_width)
    real = (base,) if is_config else (base, wider)
    weights = read_weights(base, wider)
    vocab, readout = model.vocab, None
    found: tuple[BaseParameter, ...] = ()
    why_not = "it is run on samples, which a recipe does not name"
    if vocab is not None:
        why_not, readout = "", run_once(base, Example.of_tokens(context, vocab)).readout
        try:
            found = read_built(model, build, base_width, context, note).base_plan
        except InputError as error:
            why_not = str(error)
        readout = next((p.name for p in found if p.role == "readout"), readout)
    return BuiltTarget(
        model,
        on_meta(target.builder(base_width), width),
        weights,
        readout,
        {p.name: p for p in found},
        why_not,
        tuple(read_inits(module) for module in real),
        tuple(own_code(module, readout, context, vocab) for module in real)
        if vocab is not None
        else (OwnCode(None, 0.0, frozenset()),) * len(real),
    )
