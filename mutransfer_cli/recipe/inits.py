"""Init stds of a target's matrices at the base width, from those of the proxies.

A target that is another model than the proxies starts as they did, whatever its own init is:
Hugging Face's Llama draws every matrix with std 0.02, the built-in proxies' embedding with std 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.rules.choices import MATRIX_ROLES, Role
from mutransfer_cli.rules.plan import BaseParameter, fan_in
from mutransfer_cli.spec.protocol import DeclaredProtocol

Kind = Literal["embedding", "query", "hidden", "readout"]

QUERY = re.compile(r"(.*\.)?(q_proj|q_lin|query|query_proj|wq|w_q|to_q)\.(weight|bias)")
ALIKE = 0.03  # differences of stds that are no choice
ROUNDING = 1e-9
SURE = 5  # standard errors by which stds differ that were read off random values


@dataclass(frozen=True)
class BaseInit:
    """Init of the matrices of one kind at the base width, their own multipliers included."""

    std: float
    fan_in: int | None = None
    """Fan-in of a matrix of that std, where stds scale as fan_in^-1/2 from matrix to matrix; None
    where all have the same."""
    exponent: float | None = None
    """As `BaseParameter.init_exponent`."""

    def at(self, fan_in: int) -> float:
        """The std of a matrix of this fan-in at the base width."""
        return self.std if self.fan_in is None else self.std * math.sqrt(self.fan_in / fan_in)


def base_inits(exponents: Exponents) -> dict[Kind, BaseInit]:
    """The init of the proxies by kind, as far as it follows a law; `query` where it is its own.

    Empty for own results, unless their protocol declares it.
    """
    protocol = exponents.protocol
    if protocol is None:
        return {}
    if isinstance(protocol, DeclaredProtocol):
        return {role: BaseInit(std) for role, std in (protocol.model.init_std or {}).items()}
    proxies = [record.parameter() for record in exponents.base_plan]
    kinds: dict[Kind, list[BaseParameter]] = {}
    for parameter in proxies:
        if parameter.role in MATRIX_ROLES:
            kinds.setdefault(kind_of(parameter), []).append(parameter)
    base_width = protocol.parameterization.base_width
    found = {kind: law for kind, of_it in kinds.items() if (law := _law(of_it, base_width))}
    query, hidden = found.get("query"), found.get("hidden")
    if query and hidden and (query.std or not hidden.std):
        del found["query"]
        together = _law(kinds["query"] + kinds["hidden"], base_width)
        found = {kind: law for kind, law in found.items() if kind != "hidden"}
        found |= {"hidden": together} if together else {}
    return found


def kind_of(parameter: BaseParameter) -> Kind:
    """The kind of a matrix: its role, or `query` where its name says that it makes queries."""
    role = parameter.role
    assert role != "vector", "not a matrix"
    assert role != "scalar", "not a matrix"
    return "query" if role == "hidden" and QUERY.fullmatch(parameter.name) else role


def _law(parameters: Sequence[BaseParameter], base_width: int) -> BaseInit | None:
    """The law that stds follow, the closer one; None where they follow neither."""
    stds = [_effective(p, base_width) for p in parameters]
    fan_ins = [fan_in for p in parameters if (fan_in := _fan_in(p)) is not None]
    fewest = min(math.prod(p.shape) for p in parameters)
    constant, allowed = _spread(stds), max(ALIKE, SURE / math.sqrt(2 * fewest))
    if len(fan_ins) == len(stds):
        scaled = _spread([std * math.sqrt(f) for std, f in zip(stds, fan_ins, strict=True)])
        if scaled <= min(allowed, constant + ROUNDING):
            return BaseInit(stds[0], fan_ins[0], parameters[0].init_exponent)
    if constant <= allowed:
        return BaseInit(stds[0], None, parameters[0].init_exponent)
    return None


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / (max(values) or 1.0)


def _fan_in(parameter: BaseParameter) -> int | None:
    """Inputs of one output of a hidden matrix or a readout, a convolution's kernel included."""
    axis, further = parameter.fan_in_axis, parameter.further_fan_in_axes
    if axis is None or parameter.role == "embedding":
        return None
    if further:
        return fan_in(parameter, parameter.shape)
    return math.prod(parameter.shape) // parameter.shape[1 - axis]


def _effective(parameter: BaseParameter, base_width: int) -> float:
    """The std of the weight times the factor that its model's own code puts on it."""
    return parameter.init_std * math.pow(base_width, parameter.own_multiplier)


def with_inits(
    exponents: Exponents, base_plan: Sequence[BaseParameter]
) -> tuple[BaseParameter, ...]:
    """The base plan of a target with the proxies' inits; vectors and scalars keep their own.

    A factor of the target's own code that the proxies lack is taken out of the weight.

    Where the init of the runs is not known, all keep their own.

    Raises:
        InputError: a matrix that the proxies lack, of a kind that starts at several stds in them;
            or weights that are tied in one of the two only.
    """
    protocol, laws = exponents.protocol, base_inits(exponents)
    proxies = {record.name: record.parameter() for record in exponents.base_plan}
    if protocol is None or not (proxies or laws):
        return tuple(base_plan)
    if proxies:
        _refuse_other_tie(base_plan, proxies)
    base_width = protocol.parameterization.base_width
    return tuple(_with_init(p, proxies, laws, base_width) for p in base_plan)


def _refuse_other_tie(
    base_plan: Sequence[BaseParameter], proxies: Mapping[str, BaseParameter]
) -> None:
    were_tied = any(p.is_tied_readout for p in proxies.values())
    for parameter in base_plan:
        if parameter.is_tied_readout and not were_tied:
            raise InputError(
                f"{parameter.name}: is embedding and readout, and the fitted models had a weight "
                "for each, which the rules treat differently; untie the target, or sweep tied "
                "proxies",
                setting="model",
            )
        if parameter.role == "readout" and were_tied:
            raise InputError(
                f"{parameter.name}: is a weight of the readout alone, and that of the fitted "
                "models was their embedding too, which the rules treat differently; tie the "
                "target's, or sweep untied proxies",
                setting="model",
            )


def _with_init(
    parameter: BaseParameter,
    proxies: Mapping[str, BaseParameter],
    laws: Mapping[Kind, BaseInit],
    base_width: int,
) -> BaseParameter:
    same = proxies.get(parameter.name)
    if parameter.role not in MATRIX_ROLES:
        return parameter
    if same is not None and _stands_for(same) == _stands_for(parameter):
        mean, exponent = same.init_mean, same.init_exponent
        return replace(parameter, init_std=same.init_std, init_mean=mean, init_exponent=exponent)
    kind = kind_of(parameter)
    law = laws.get(kind) or laws.get("hidden" if kind == "query" else kind)
    if law is None:
        raise InputError(_no_law(parameter, proxies, base_width), setting="model")
    fan_in = _fan_in(parameter)
    if law.fan_in is not None and fan_in is None:
        raise InputError(
            f"{parameter.name}: its input axis is not known, and the proxies' stds follow the "
            "fan-in; give the model that was swept",
            setting="model",
        )
    std = law.std if fan_in is None else law.at(fan_in)
    alike = next((p for p in proxies.values() if p.role == parameter.role), None)
    if alike is not None:
        # rates, too, are those of weights under the proxies' own factor
        std *= math.pow(base_width, -alike.own_multiplier)
        factor = math.pow(base_width, alike.own_multiplier - parameter.own_multiplier)
        parameter = replace(parameter, factor=factor)
        if parameter.is_tied_readout:
            own = parameter.own_output_multiplier - alike.own_output_multiplier
            parameter = replace(parameter, output_factor=math.pow(base_width, -own))
    return replace(parameter, init_std=std, init_mean=0.0, init_exponent=law.exponent)


def _stands_for(parameter: BaseParameter) -> tuple[Role, tuple[int, ...], float]:
    return parameter.role, parameter.shape, parameter.own_multiplier


def _no_law(parameter: BaseParameter, proxies: Mapping[str, BaseParameter], base_width: int) -> str:
    alike = [p for p in proxies.values() if p.role == parameter.role]
    if not proxies:
        return (
            f"{parameter.name}: the protocol does not say at which std {parameter.role} matrices "
            f"start; declare model.init_std.{parameter.role}"
        )
    if not alike:
        return (
            f"{parameter.name}: the proxies have no {parameter.role} matrix, so that its init std "
            "is not known; sweep a model of the target's kind"
        )
    low, high = (end(alike, key=lambda p: _effective(p, base_width)) for end in (min, max))
    return (
        f"{parameter.name}: {parameter.role} matrices of the proxies start at several stds "
        f"({low.name} {low.init_std:.3g}, {high.name} {high.init_std:.3g}), so that the one to use "
        "is not known; give the model that was swept"
    )
