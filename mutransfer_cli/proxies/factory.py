"""One's own model: importing its function and calling it, with what goes wrong said."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mutransfer_cli.errors import InputError, MutransferError
from mutransfer_cli.spec.model import FactoryProtocol

DROPOUTS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
SEED = 0  # of what a model draws when it is built: the base init, buffers, frozen weights


def factory_builder(model: FactoryProtocol, context: int) -> Callable[[int], nn.Module]:
    """The function from width to module.

    Raises:
        InputError: no such function, or one that cannot take its arguments.
    """
    where = f"model.factory {model.factory}"
    function = import_function(model.factory, where)
    signature = inspect.signature(function)
    parameters = signature.parameters
    any_key = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    if "width" not in parameters and not any_key:
        taken = ", ".join(parameters) or "nothing"
        raise InputError(f"{where}: takes {taken}; it needs a parameter named width")
    offered: dict[str, Any] = {"vocab": model.vocab, "context": context}
    args = {name: value for name, value in offered.items() if name in parameters} | model.args
    try:
        signature.bind(width=0, **args)
    except TypeError as error:
        raise InputError(f"{where}: {error}; see model.args") from error

    def build(width: int) -> nn.Module:
        try:
            found = function(width=width, **args)
        except MutransferError:
            raise
        except Exception as error:
            raise InputError(
                f"{where}: raised {type(error).__name__} at width {width}: {first_line(error)}"
            ) from error
        if not isinstance(found, nn.Module):
            raise InputError(f"{where}: returned {type(found).__name__}, expected an nn.Module")
        return found

    return build


def import_function(name: str, where: str) -> Callable[..., Any]:
    """Imports `module:function`, looked for in the current folder first, as `python -m` does."""
    module_name, _, function_name = name.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise InputError(
            f"{where}: cannot be imported ({type(error).__name__}: {first_line(error)})"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        what = "has no function" if function is None else "holds no function but a value"
        raise InputError(f"{where}: {module.__file__ or module_name} {what} {function_name}")
    return function  # type: ignore[no-any-return]


def for_real(build: Callable[[int], nn.Module], width: int) -> nn.Module:
    """With values, the same in every run, and without dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return without_dropout(build(width))


def on_meta(build: Callable[[int], nn.Module], width: int) -> nn.Module:
    """Without values; with them where a model cannot be built without."""
    try:
        with torch.device("meta"):
            return build(width)
    except Exception:
        return for_real(build, width)


def without_dropout(model: nn.Module) -> nn.Module:
    """Turns off what torch's own modules drop: a trial is to be the same in every company."""
    for module in model.modules():
        if isinstance(module, DROPOUTS):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            module.dropout = 0.0
    return model


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
