"""The user's own model: import its function and call it; errors say what is wrong with it."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from mutransfer_cli.errors import InputError, MutransferError
from mutransfer_cli.spec.model import FactoryProtocol
from mutransfer_cli.spec.sources import recipes_folders

DROPOUTS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
# folders whose code is not the user's: Python's library, this package, and installed packages
PYTHONS, OURS = Path(sysconfig.get_path("stdlib")), Path(__file__).parents[1]
INSTALLED = {"site-packages", "dist-packages"}
OF_BATCH = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
SEED = 0  # for everything a model draws when it is built: base init, buffers, frozen weights


def factory_builder(model: FactoryProtocol, context: int) -> Callable[[int], nn.Module]:
    """The function from width to module.

    Raises:
        InputError: there is no such function, or it cannot take its arguments.
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
    if model.vocab is None:  # a model of samples
        offered = {}
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
                f"{where}: raised {type(error).__name__} at width {width}: {message_of(error)}"
            ) from error
        if not isinstance(found, nn.Module):
            raise InputError(f"{where}: returned {type(found).__name__}, expected an nn.Module")
        lazy = next((name for name, p in found.named_parameters() if is_lazy(p)), None)
        if lazy is not None:
            raise InputError(
                f"{where}: {lazy} has no shape before a first forward pass, as in nn.LazyLinear; "
                "give its module all sizes"
            )
        return found

    return build


def import_function(name: str, where: str) -> Callable[..., Any]:
    """Import `module:function`, from the current folder first, as `python -m` does, and last from
    the folder of the shipped specs.

    Args:
        where: begins every error message.
    """
    module_name, _, function_name = name.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    sys.path += [str(path) for path in recipes_folders() if str(path) not in sys.path]
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise InputError(
            f"{where}: cannot be imported: {type(error).__name__}: {message_of(error)}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        what = "has no function" if function is None else "holds no function but a value"
        raise InputError(f"{where}: {module.__file__ or module_name} {what} {function_name}")
    return function  # type: ignore[no-any-return]


def for_real(build: Callable[[int], nn.Module], width: int) -> nn.Module:
    """Build the model with values, the same in every run, and without dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return without_dropout(build(width))


def on_meta(build: Callable[[int], nn.Module], width: int) -> nn.Module:
    """Build the model without values, or with them if it cannot be built without."""
    try:
        with torch.device("meta"):
            return build(width)
    except Exception:
        return for_real(build, width)


def without_dropout(model: nn.Module) -> nn.Module:
    """Turn off dropout: no trial may depend on those beside it.

    The user's own modules are put into eval mode, for functions that ask `self.training`; torch's
    and batch norms of the user's keep theirs, because in eval mode they would be another model.
    """
    for module in model.modules():
        is_torchs = type(module).__module__.startswith("torch.nn.")
        module.training = module.training and (is_torchs or isinstance(module, OF_BATCH))
        if isinstance(module, DROPOUTS):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            module.dropout = 0.0
    return model


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).splitlines() or [""])[0]


def message_of(error: Exception) -> str:
    """The first line of an error's message and the line of the user's code behind it, if any."""
    message = error.msg if isinstance(error, SyntaxError) else first_line(error)
    line = user_line(error)
    return f"{message} ({line})" if line else message


def user_line(error: Exception) -> str:
    """The innermost line of the user's code that an error comes from, as `models.py:12`.

    It is empty if none of the lines is the user's. A module that cannot be parsed runs no line; its
    error names one.
    """
    if isinstance(error, SyntaxError) and is_users(error.filename or "<>"):
        return f"{Path(error.filename or '').name}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_users(frame.filename):
            return f"{Path(frame.filename).name}:{frame.lineno}"
    return ""


def is_users(file: str) -> bool:
    """Whether code is the user's; what a library made while running has no file, as `<string>`."""
    path = Path(file)
    elsewhere = path.is_relative_to(PYTHONS) or path.is_relative_to(OURS)
    return not (file.startswith("<") or elsewhere or INSTALLED.intersection(path.parts))
