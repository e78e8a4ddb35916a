"""The model to be trained, as its config or its factory has it: nothing of its width is held."""

from __future__ import annotations

from collections.abc import Mapping

from mutransfer_cli.errors import InputError
from mutransfer_cli.files.exponents import AnyProtocol, Exponents
from mutransfer_cli.files.model import FactoryProtocol, FactorySpec, HfProtocol
from mutransfer_cli.files.sources import load_model
from mutransfer_cli.files.strict import parse_count
from mutransfer_cli.proxies.build import read_built
from mutransfer_cli.proxies.factory import factory_builder, on_meta
from mutransfer_cli.proxies.hf import hf_builder, say_what_is_used
from mutransfer_cli.proxies.init import Note, silent
from mutransfer_cli.rules.plan import TargetModel

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
