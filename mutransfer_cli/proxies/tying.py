"""The names of weights that a module holds several times, and of one that is also its readout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.plan import PlannedParameter


@dataclass(frozen=True)
class TiedNames:
    """The names of one weight by its use.

    Attributes:
        embedding: names under which it is looked up.
        readout: names under which it makes the logits; none if the module's code uses one name for
            both.
    """

    embedding: tuple[str, ...]
    readout: tuple[str, ...]


def tied_names(model: nn.Module, name: str) -> TiedNames:
    """The names of a tied embedding, from the modules that own it.

    Args:
        name: one of its names, the first in module order.

    Raises:
        InputError: no module or every module that owns it is an nn.Embedding.
    """
    weight = model.get_parameter(name)
    pairs = model.named_parameters(remove_duplicate=False)
    names = [other for other, parameter in pairs if parameter is weight]
    if len(names) == 1:
        return TiedNames((name,), ())
    owners = {other: model.get_submodule(other.rpartition(".")[0]) for other in names}
    looked_up = tuple(n for n, owner in owners.items() if isinstance(owner, nn.Embedding))
    others = tuple(n for n in names if n not in looked_up)
    if not looked_up or not others:
        kinds = ", ".join(f"{n} of {type(owner).__name__}" for n, owner in owners.items())
        raise InputError(
            f"{name}: is embedding and readout under several names ({kinds}), and which of them "
            "makes the logits is not known; look tokens up in an nn.Embedding and make the logits "
            "in an nn.Linear, or untie them"
        )
    return TiedNames(looked_up, others)


def with_output(plan: Iterable[PlannedParameter]) -> dict[str, tuple[float, float]]:
    """Multiplier and output multiplier of every tied embedding, by name, where they differ."""
    found = {}
    for parameter in plan:
        output = parameter.output_multiplier
        if output is not None and output != parameter.multiplier:
            found[parameter.name] = (parameter.multiplier, output)
    return found


def tied_multipliers(plan: Iterable[PlannedParameter], model: nn.Module) -> dict[str, float]:
    """Factor on every tied embedding by each of its names; those of the readout have another."""
    found: dict[str, float] = {}
    for name, (multiplier, output) in with_output(plan).items():
        names = tied_names(model, name)
        found |= dict.fromkeys(names.embedding, multiplier) | dict.fromkeys(names.readout, output)
    return found


def output_factor(plan: Iterable[PlannedParameter], model: nn.Module, has_loss: bool) -> float:
    """Factor on the logits of a model that uses one weight under one name as embedding and as
    readout: its output multiplier over its multiplier.

    Args:
        has_loss: whether the model computes its loss itself.

    Raises:
        InputError: the factor is not 1, and the model computes its loss itself.
    """
    factor = 1.0
    for name, (multiplier, output) in with_output(plan).items():
        if not tied_names(model, name).readout:
            factor *= output / multiplier
            if has_loss:
                raise InputError(
                    f"{name}: is embedding and readout under one name, and forward computes the "
                    f"loss itself, so that nothing can multiply its logits by {factor:.4g}; return "
                    "the logits, or make them in an nn.Linear whose weight is the embedding's"
                )
    return factor


def other_names(named: Iterable[tuple[str, Tensor]]) -> dict[str, str]:
    """The first name of every tensor by each of its other names.

    Args:
        named: all tensors of a module with all their names.
    """
    first: dict[int, str] = {}
    found = {}
    for name, tensor in named:
        known = first.setdefault(id(tensor), name)
        if known != name:
            found[name] = known
    return found
