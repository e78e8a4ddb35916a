"""One forward pass of a model, watched through torch's dispatcher, whatever its code looks like.

A tensor is a parameter (or made of parameters and constants alone, such as a transposed or a
normalised weight), an activation, or a constant. Where a parameter meets an activation, it is used:
multiplied as a matrix, looked up, added, or multiplied elementwise. Tensors are told apart by their
storages, which views share. The sizes of activations are kept at places where a factor shows, so
that the passes of two widths can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mutransfer_cli.proxies.observations import (
    NOTHING,
    Correct,
    Flow,
    Maker,
    Makers,
    Names,
    Place,
    PlaceKind,
    Scaling,
    Span,
    Trace,
    Use,
    UseKind,
    joined,
    of_table,
)
from mutransfer_cli.proxies.operations import (
    ATTENTION,
    LOOKUPS,
    LOSSES,
    NORMS,
    OF_VECTORS,
    SCALINGS,
    SOFTMAXES,
    SUMS,
    Axes,
    at,
    leaves,
    line_of_code,
    looked_up,
    overlaps,
    size_of,
    summed_axes,
)

OUTPUT = "output"  # the place behind the last operation


class Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is in force, watches the model run.

    Args:
        parameters: every parameter as the model reads it, by name; tied ones under one name.
        growing: axes that grow with width.
        inputs: tensors that the model is called with.
        correct: given the index of a place and the place, the factor to multiply it with.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        growing: Mapping[str, Axes],
        inputs: Sequence[Tensor],
        correct: Correct = lambda index, place: 1.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace, self.growing, self.correct = Trace(), growing, correct
        self.like: dict[int, dict[str, tuple[Span, ...]]] = {}
        self.flows: dict[int, Flow] = {}
        self.laid: dict[int, dict[str, tuple[Span, ...]]] = {}
        self.merged: dict[str, Axes] = {}
        self.corrected: dict[int, float] = {}
        self.kept: list[Tensor] = [*parameters.values(), *inputs]  # a freed address may come back
        for name, parameter in parameters.items():
            self.like.setdefault(at(parameter), {})[name] = tuple(
                (stride, size, axis)
                for axis, (stride, size) in enumerate(
                    zip(parameter.stride(), parameter.shape, strict=True)
                )
            )
        self.given = frozenset(self.like)
        for tensor in inputs:
            self.flows[at(tensor)] = Flow()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = func._schema.name.removeprefix("aten::"), dict(kwargs or {})
        read = [x for x in leaves((args, kwargs)) if isinstance(x, Tensor)]
        self._note_scaling(name, args)
        for tensor in self._made_weights(name, args):
            self._place_weight(tensor)
        if name.startswith("_" + ATTENTION):
            self._attend(args, kwargs)
        else:
            for tensor in self._placed(name, args):
                self._place(name, tensor, self._reader(name, args, tensor))
        out = func(*args, **kwargs)
        written = [x for x in leaves(out) if isinstance(x, Tensor) and x.numel()]
        self.kept += written
        if written:
            self._follow(name, args, read, written)
        return out

    def finish(self, output: Any) -> Trace:
        """The trace, given the tensors that training uses of the model's output."""
        found = [x for x in leaves(output) if isinstance(x, Tensor) and x.is_floating_point()]
        for tensor in found:
            self._place(OUTPUT, tensor, NOTHING)
        opens = [self.flows[at(x)].open for x in found if at(x) in self.flows]
        self.trace.outer = NOTHING.union(*opens)
        return self.trace

    def _follow(
        self, name: str, args: Any, read: Sequence[Tensor], written: Sequence[Tensor]
    ) -> None:
        """Record the uses of parameters, and what the tensors written are."""
        known = [x for x in read if x.numel()]
        if all(at(x) in self.like for x in written):
            return  # a view of a parameter
        flows = [self.flows[at(x)] for x in known if at(x) in self.flows]
        has_parameters = any(at(x) in self.like for x in known)
        factors = summed_axes(name, args)
        weights = [(x, axes) for x, axes in factors if at(x) in self.like]
        all_parameters = len(weights) == len(factors) == 2
        if all_parameters and not is_layer(name, weights[1][0]):
            self._merge(weights, written[0])
            return
        if weights and (flows or name not in OF_VECTORS):
            if all_parameters:  # learned rows that a layer reads
                self._touch("add", [weights.pop(0)[0]])
                flows = [*flows, Flow(made=True)]
            flow = self._multiply(weights, joined(flows))
            summed = {at(x) for x, _ in factors}
            self._touch("add", [x for x in known if at(x) not in summed])
        elif name in LOOKUPS and at(args[0]) in self.like:
            if self._takes_matrices(name, args, written[0]):
                return
            flow = self._look_up(name, args, name != "embedding" and joined(flows).made)
        elif not flows:
            if has_parameters:
                for tensor in written:
                    if at(tensor) not in self.like:
                        self.like[at(tensor)] = self._spans(known, tensor)
            return
        elif name in ("sum", "mean") and at(args[0]) in self.laid:
            flow = self._sum(args, joined(flows))
        else:
            flow = joined(flows)
            if has_parameters:
                self._touch(name, known)
                flow = replace(flow, made=True)
                if name in ("mul", "mul_"):
                    self.laid[at(written[0])] = self._spans(known, written[0])
            if name.startswith("_fft"):  # sums over features that no matrix makes
                flow = replace(flow, since=flow.since | {("", "elementwise")})
            if factors and len(flows) > 1:
                flow = replace(flow, is_score=True)
        for tensor in written:
            if at(tensor) not in self.like:
                self.flows[at(tensor)] = flow

    def _multiply(self, weights: Sequence[tuple[Tensor, Axes]], before: Flow) -> Flow:
        """Record a product of parameters, or of what is made of them, with an activation."""
        makers: set[Maker] = set()
        growing: set[str] = set()
        for x, axes in weights:
            for weight in self.like[at(x)]:
                over, inside = self._axes(x, weight, axes), before.made
                if not over and weight in self.merged:
                    over, inside = self.merged[weight], True
                self._use(weight, Use("product", over, self._axes(x, weight), inside))
                makers.add((weight, "product"))
                if set(over) & set(self.growing.get(weight, ())):
                    growing.add(weight)
        return self._made(before, makers, growing)

    def _made(self, before: Flow, makers: set[Maker], growing: set[str]) -> Flow:
        """The flow behind a product of matrices, of which some sum over a growing axis."""
        if growing:
            self.trace.inner |= before.open
            before = Flow(open=frozenset(growing))
        return Flow(made=True, open=before.open, since=frozenset(makers))

    def _merge(self, weights: Sequence[tuple[Tensor, Axes]], out: Tensor) -> None:
        """A product of two parameters, as of adapters that are merged, stays a parameter."""
        (one, one_axes), (other, other_axes) = weights
        found: dict[str, tuple[Span, ...]] = {}
        for x, summed, kept in ((one, one_axes, -2), (other, other_axes, -1)):
            for name in self.like[at(x)]:
                dims = [dim for dim in range(x.dim()) if dim - x.dim() not in summed]
                places = [dim if dim - x.dim() != kept else out.dim() + kept for dim in dims]
                found[name] = tuple(
                    (out.stride(place), out.shape[place], axis)
                    for dim, place in zip(dims, places, strict=True)
                    for axis in self._axes(x, name, (dim,))
                )
                self.merged[name] = self._axes(x, name, summed)
        self.like[at(out)] = found

    def _sum(self, args: Any, before: Flow) -> Flow:
        """Record a sum over an axis along which a parameter was laid, which makes a product."""
        x, dims = args[0], args[1] if len(args) > 1 and args[1] else None
        makers: set[Maker] = set()
        for weight, spans in self.laid[at(x)].items():
            over = axes_behind(x, spans, dims)
            if set(over) & set(self.growing.get(weight, ())):
                self._use(weight, Use("product", over, axes_behind(x, spans), before.made))
                makers.add((weight, "product"))
        return self._made(before, makers, {name for name, _ in makers}) if makers else before

    def _look_up(self, name: str, args: Any, inside: bool) -> Flow:
        """Record a lookup of rows, by data or by what parameters make of them."""
        table, dims = args[0], looked_up(name, args)
        makers: set[Maker] = set()
        for weight in self.like[at(table)]:
            axes = self._axes(table, weight, dims)
            self._use(weight, Use("lookup", axes, self._axes(table, weight), inside))
            makers.add((weight, "lookup"))
        return Flow(made=True, since=frozenset(makers))

    def _takes_matrices(self, name: str, args: Any, written: Tensor) -> bool:
        """Whether a lookup takes matrices from a stack, which stay parameters."""
        table, dims = args[0], looked_up(name, args)
        rest = [dim for dim in range(table.dim()) if dim not in dims]
        if sum(table.shape[dim] > 1 for dim in rest) < 2:
            return False
        first = written.dim() - len(rest)
        self.like[at(written)] = {
            weight: tuple(
                (written.stride(first + place), written.shape[first + place], axis)
                for place, dim in enumerate(rest)
                for axis in self._axes(table, weight, (dim,))
            )
            for weight in self.like[at(table)]
        }
        return True

    def _spans(self, read: Sequence[Tensor], out: Tensor) -> dict[str, tuple[Span, ...]]:
        """The axes of parameters along the dimensions of a tensor that an operation makes of them
        elementwise."""
        found: dict[str, tuple[Span, ...]] = {}
        for x in read:
            offset = out.dim() - x.dim()
            dims = [dim for dim in range(x.dim()) if 0 <= dim + offset < out.dim()]
            for name in self.like.get(at(x), ()):
                spans = tuple(
                    (out.stride(dim + offset), out.shape[dim + offset], axis)
                    for dim in dims
                    for axis in self._axes(x, name, (dim,))
                )
                if len(spans) >= len(found.get(name, ())):
                    found[name] = spans
        return found

    def _touch(self, name: str, read: Sequence[Tensor]) -> None:
        """Record parameters that meet an activation elementwise."""
        kind: UseKind = "added" if name in SUMS else "elementwise"
        for x in read:
            for weight in self.like.get(at(x), ()):
                self._use(weight, Use(kind, (), self._axes(x, weight)))

    def _use(self, name: str, use: Use) -> None:
        found = self.trace.uses.setdefault(name, [])
        if use not in found:
            found.append(use)

    def _axes(self, tensor: Tensor, name: str, dims: Axes | None = None) -> Axes:
        return axes_behind(tensor, self.like[at(tensor)][name], dims)

    def _placed(self, name: str, args: Any) -> Iterator[Tensor]:
        """The activations among the arguments at which a factor would show."""
        if factors := summed_axes(name, args):
            if any(at(x) in self.like for x, _ in factors):
                yield from (x for x, _ in factors if at(x) in self.flows)
            return
        if name in SUMS:
            summands = [x for x in leaves(args) if isinstance(x, Tensor) and at(x) in self.flows]
            yield from summands if len(summands) > 1 else ()
        elif name in (*NORMS, *SOFTMAXES, *LOSSES):
            yield from (x for x in args[:2] if isinstance(x, Tensor) and at(x) in self.flows)

    def _made_weights(self, name: str, args: Any) -> Iterator[Tensor]:
        """The factors of a product that are made of parameters, such as normalised weights."""
        for x, _ in summed_axes(name, args):
            if at(x) in self.like and at(x) not in self.given and x.is_floating_point():
                yield x

    def _place_weight(self, tensor: Tensor) -> None:
        factor = self._record("weight", size_of(tensor), NOTHING, frozenset(self.like[at(tensor)]))
        if factor != 1 and not overlaps(tensor):
            tensor.mul_(factor)

    def _reader(self, name: str, args: Any, tensor: Tensor) -> Names:
        factors = summed_axes(name, args)
        return NOTHING.union(*(self.like.get(at(x), {}) for x, _ in factors))

    def _place(self, name: str, tensor: Tensor, reader: Names) -> None:
        flow = self.flows.get(at(tensor))
        if flow is None or not tensor.is_floating_point() or not (flow.made and tensor.numel()):
            return
        kind: PlaceKind = "output" if name == OUTPUT else "stream"
        if flow.is_score and name in SOFTMAXES:
            kind = "attention"
        before = self.corrected.get(at(tensor), 1.0) if reader else 1.0
        factor = self._record(kind, size_of(tensor) / before, flow.since, reader)
        if factor != 1 and before == 1 and not overlaps(tensor):
            tensor.mul_(factor)
            if reader and not of_table(flow.since):  # others that read it see the factor too
                self.corrected[at(tensor)] = factor
        self.flows[at(tensor)] = replace(flow, since=NOTHING)

    def _attend(self, args: Any, kwargs: dict[str, Any]) -> None:
        """The place of a call of fused attention, of size q.k times its scale."""
        query, key = args[:2]
        if key.shape[-3] < query.shape[-3]:
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        scale = kwargs.get("scale")
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        makers = NOTHING.union(*(self.flows[at(x)].since for x in args[:2] if at(x) in self.flows))
        factor = self._record("attention", size_of(query @ key.mT) * scale, makers, NOTHING)
        if factor != 1:
            kwargs["scale"] = scale * factor

    def _record(self, kind: PlaceKind, size: float, makers: Makers, reader: Names) -> float:
        place = Place(kind, size, makers, reader, line_of_code())
        self.trace.places.append(place)
        return self.correct(len(self.trace.places) - 1, place)

    def _note_scaling(self, name: str, args: Any) -> None:
        if name not in SCALINGS or not isinstance(args[0], Tensor) or at(args[0]) not in self.flows:
            return
        value = args[1].item() if isinstance(args[1], Tensor) and args[1].numel() == 1 else args[1]
        if isinstance(value, int | float):
            value = 1 / value if name.startswith("div") and value else value
            scaling = Scaling(len(self.trace.places), float(value), line_of_code())
            self.trace.scalings.append(scaling)


def axes_behind(tensor: Tensor, spans: Sequence[Span], dims: Axes | None = None) -> Axes:
    """A parameter's axes behind some dimensions of a tensor, by default behind all."""
    chosen = range(tensor.dim()) if dims is None else [dim % tensor.dim() for dim in dims]
    found = set()
    for dim in chosen:
        first, end = tensor.stride(dim), tensor.stride(dim) * tensor.shape[dim]
        if tensor.shape[dim] > 1 and first:
            found |= {
                axis
                for stride, size, axis in spans
                if size > 1 and stride < end and stride * size > first
            }
    return tuple(sorted(found))


def is_layer(name: str, weight: Tensor) -> bool:
    """Whether a product of two parameters is that of a linear layer, whose weight is transposed or
    has a bias, with learned rows."""
    return name.startswith(("add", "badd")) or weight.stride()[-2:] == (1, weight.shape[-2])
