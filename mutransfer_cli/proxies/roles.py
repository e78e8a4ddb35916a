"""The base plan of a model: the role of every parameter, by how a forward pass uses it.

A product that sums over a growing axis makes a matrix `hidden`, or `readout` if its output reaches
the loss without another such product. A product or a lookup over an axis that does not grow makes
it an `embedding`. A weight that is both is a tied embedding. Other parameters are vectors, or
scalars. Parameters that the pass did not use have the role of the same ones in other blocks, or the
one that the types of their modules tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.inits import Init, in_any_block
from mutransfer_cli.proxies.observations import Trace, Use
from mutransfer_cli.proxies.operations import Axes
from mutransfer_cli.proxies.reading import Note, Weight, shown, silent
from mutransfer_cli.rules.choices import MATRIX_ROLES, Role
from mutransfer_cli.rules.plan import BaseParameter

FEW = 3  # names in a sentence


@dataclass(frozen=True)
class Finding:
    """A parameter's role, and how it was found.

    Attributes:
        fan_in_axes: axes that its products sum over.
        in_block: whether its input is made by other parameters.
        is_tied_readout: whether it is embedding and readout.
        doubt: a clause for the user where the role is a guess; otherwise empty.
    """

    role: Role
    fan_in_axes: Axes = ()
    in_block: bool = False
    is_tied_readout: bool = False
    doubt: str = ""


def base_plan(
    weights: Sequence[Sequence[Weight]],
    trace: Trace | None,
    readout: str | None,
    inits: Mapping[str, Init],
    declared: Mapping[str, Role],
    note: Note = silent,
) -> tuple[BaseParameter, ...]:
    """The base plan.

    Args:
        trace: of the base model; None if it cannot be run, or is built in.
        readout: without a trace, a name of the matrix that makes the output.
        declared: roles by patterns that match the whole name.

    Raises:
        InputError: a role is ambiguous, weights are tied across roles without a declared one, or a
            pattern matches nothing.
    """
    roles = declared_roles(weights, declared)
    uses = trace.uses if trace else {}
    found = {
        weight.name: by_use(weight, uses[weight.name], trace)
        for weight, *_ in weights
        if trace and weight.name in uses and weight.name not in roles
    }
    plan, unused = [], dict[str, str]()
    for names in weights:
        weight, role = names[0], roles.get(names[0].name)
        finding = found.get(weight.name)
        if role is not None:
            note(f"{weight.name}: {role}, as model.roles says")
            note_tied(names, role, note)
            finding = Finding(role, summed(weight, uses.get(weight.name, ()), role))
        elif finding is None:
            alike = next((f for n, f in found.items() if n in siblings(weight, weights)), None)
            finding = replace(alike, doubt="") if alike else by_types(names, readout)
            by = "as in other blocks" if alike else "by its module"
            unused[weight.name] = f"{finding.role} {by}"
        elif finding.doubt:
            note(f"{weight.name}: {finding.role}, {finding.doubt}")
        plan.append(base_parameter(weight, finding, inits[weight.name], note))
    note_drawn(plan, note)
    note_fixed(plan, note)
    if unused and trace is not None:
        listed = first_few([f"{name} {how}" for name, how in unused.items()])
        note(f"not used in the forward pass, so that roles are guessed: {listed}")
    return tuple(plan)


def by_use(weight: Weight, uses: Sequence[Use], trace: Trace) -> Finding:
    """The role of a parameter that was used.

    Raises:
        InputError: a lookup along a growing axis, or tied weights whose product is no output.
    """
    growing, name = set(weight.growing_axes), weight.name
    products = [use for use in uses if use.kind == "product" and use.axes]
    wide = [use for use in products if growing & set(use.axes)]
    narrow = [use for use in products if not growing & set(use.axes)]
    # rows that a router chooses are the biases of experts
    rows = [use for use in uses if use.kind == "lookup" and not use.inside]
    lookups = [use for use in rows if len(use.seen) > 1]
    is_output = name in trace.outer and name not in trace.inner
    if not growing:
        return Finding("scalar", products[0].axes if products else ())
    if weight.depthwise:
        return Finding("vector")
    if any(growing & set(use.axes) for use in lookups):
        raise InputError(
            f"{name}: {sizes(weight)} is looked up along an axis that grows with width, which has "
            f"no role; give it in model.roles, as {{{name}: embedding}}"
        )
    if wide and (narrow or lookups):
        if not is_output:
            raise InputError(
                f"{name}: {sizes(weight)} is an embedding and a hidden matrix at once, which the "
                f"rules treat differently; untie them, or give model.roles {{{name}: embedding}}"
            )
        return Finding("embedding", (lookups or narrow)[0].axes, is_tied_readout=True)
    if wide:
        axes = wide[0].axes
        if is_output and growing <= set(axes):
            return Finding("readout", axes)
        doubt = "although it makes the output: its fan-out grows" if is_output else ""
        return Finding("hidden", axes, doubt=doubt)
    if narrow or lookups:
        of_use = (narrow or lookups)[0]
        return Finding("embedding", of_use.axes, in_block=any(use.inside for use in narrow))
    table = next((use for use in uses if use.kind == "added" and len(use.seen) > 1), None)
    if table is None:
        return Finding("vector")
    fixed = tuple(axis for axis in table.seen if axis not in growing)
    return Finding("embedding", fixed[:1], doubt="a table of learned rows")


def by_type(weight: Weight, readout: str | None) -> Finding:
    """The role by the type of the owning module."""
    role = weight.role(is_readout=weight.name == readout)
    if weight.fan_in_axis is None or not weight.is_matrix or weight.depthwise:
        return Finding(role)
    return Finding(role, (weight.fan_in_axis,))


def sizes(weight: Weight) -> str:
    """The shapes at the two widths, in words."""
    return f"{shown(weight.shape)} at the base width and {shown(weight.wide_shape)} at another"


def siblings(weight: Weight, weights: Sequence[Sequence[Weight]]) -> frozenset[str]:
    """Names of the same parameter in other blocks."""
    same = (in_any_block(weight.name), weight.shape, weight.wide_shape)
    return frozenset(
        other.name
        for other, *_ in weights
        if (in_any_block(other.name), other.shape, other.wide_shape) == same
    )


def base_parameter(
    weight: Weight, finding: Finding, init: Init, note: Note = silent
) -> BaseParameter:
    """The parameter of the base plan; a matrix is drawn around 0."""
    is_matrix = finding.role in MATRIX_ROLES
    # a matrix that does not grow has values of its own for every seed
    is_drawn_anew = finding.role == "scalar" and weight.is_matrix and not init.mean
    if is_matrix and init.mean and init.std:
        note(
            f"{weight.name}: its own init has mean {init.mean:.3g} and std {init.std:.3g}; it gets "
            "normal values of that std around 0"
        )
    # an axis that grows comes first; of the others none can change the growth of the fan-in
    growing = [axis for axis in finding.fan_in_axes if axis in weight.growing_axes]
    first, *further = growing or finding.fan_in_axes[:1] or (None,)
    return BaseParameter(
        weight.name,
        finding.role,
        weight.shape,
        weight.growing_axes,
        init.std,
        0.0 if is_matrix and init.std else init.mean,
        first,
        further_fan_in_axes=tuple(axis for axis in further if axis is not None),
        keeps_draw=not is_matrix and bool(init.std) and not is_drawn_anew,
        in_block=finding.in_block and finding.role == "embedding",
        is_tied_readout=finding.is_tied_readout,
    )


def note_drawn(plan: Sequence[BaseParameter], note: Note) -> None:
    """Say which vectors and scalars start at the values of the model's own code."""
    kept = list(dict.fromkeys(in_any_block(p.name) for p in plan if p.keeps_draw))
    if kept:
        note(f"{first_few(kept)}: start at the values that the model's own code draws")


def summed(weight: Weight, uses: Sequence[Use], role: Role) -> Axes:
    """The axes that products of a declared role sum over."""
    growing = set(weight.growing_axes)
    known = [use.axes for use in uses if use.kind in ("product", "lookup") and use.axes]
    known.sort(key=lambda axes: bool(growing & set(axes)) == (role == "embedding"))
    own = () if weight.fan_in_axis is None else (weight.fan_in_axis,)
    return known[0] if known else own


def by_types(names: Sequence[Weight], readout: str | None) -> Finding:
    """The one role of a layer that is used twice; an embedding that is also the readout has none.

    Raises:
        InputError: the names have different roles, or their types do not tell.
    """
    first, *others = names
    found = by_type(first, readout)
    for other in others:
        if by_type(other, readout).role != found.role:
            raise InputError(
                f"{other.name} and {first.name} are one tied parameter; untie them: the rules "
                f"treat them differently (or give model.roles {{{first.name}: embedding}}, which "
                "leaves the output multiplier to the model's own code)"
            )
    return found


def note_tied(names: Sequence[Weight], role: Role, note: Note) -> None:
    """Note that a parameter with a declared role has several names.

    Raises:
        InputError: the role is the readout.
    """
    if len(names) == 1:
        return
    first, other = names[0].name, names[1].name
    if role == "readout":
        raise InputError(
            f"model.roles: {first} is tied to {other}: the rules of a readout do not apply to it; "
            "give embedding, or untie them"
        )
    note(
        f"{first} is also {other}: trained as {role}; the output multiplier is left to the model's "
        "own code"
    )


def note_fixed(plan: Sequence[BaseParameter], note: Note) -> None:
    """Say which matrices inside the model read a number of features that does not grow."""
    fixed = {
        in_any_block(p.name): p.shape[p.fan_in_axis]
        for p in plan
        if p.in_block and p.fan_in_axis is not None
    }
    if fixed:
        listed = first_few([f"{name} {size}" for name, size in fixed.items()])
        note(
            f"fan-ins that stay fixed: {listed}; such matrices have the rates of embeddings and "
            "the weight decay of hidden matrices"
        )


def first_few(items: Sequence[str]) -> str:
    """The first items of a list, and how many follow."""
    more = f" and {len(items) - FEW} more" if len(items) > FEW else ""
    return ", ".join(items[:FEW]) + more


def declared_roles(
    weights: Sequence[Sequence[Weight]], declared: Mapping[str, Role]
) -> dict[str, Role]:
    """The declared roles by the first name of each parameter.

    Raises:
        InputError: a pattern matches nothing, or two patterns disagree.
    """
    roles: dict[str, Role] = {}
    for pattern, role in declared.items():
        matched = [
            names[0].name
            for names in weights
            if any(re.fullmatch(pattern, weight.name) for weight in names)
        ]
        if not matched:
            raise InputError(f"model.roles: no parameter's whole name matches {pattern!r}")
        for name in matched:
            if roles.setdefault(name, role) != role:
                raise InputError(
                    f"model.roles: {name} is {roles[name]} by one pattern and {role} by {pattern!r}"
                )
    return roles
