"""Powers of width of a model's own code in its base plan, where a rule divides them out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.comparing import Comparison
from mutransfer_cli.proxies.observations import Trace
from mutransfer_cli.proxies.patterns import Patterns
from mutransfer_cli.proxies.reading import Note, silent
from mutransfer_cli.rules.plan import BaseParameter

HALF = 0.5  # of q.k over sqrt(d_head), where heads grow


def with_own_factors(
    plan: Sequence[BaseParameter],
    code: Comparison,
    patterns: Patterns,
    declared: Mapping[str, float],
    widths: tuple[int, int],
    note: Note = silent,
) -> tuple[BaseParameter, ...]:
    """The base plan with the powers of width of the model's own code, which a rule divides out.

    Args:
        declared: such powers by patterns of whole names, in place of those measured; if there are
            any, the user answers for what could not be attributed.
        widths: those that were compared.

    Raises:
        InputError: a factor belongs to no single matrix, is no power of width, or changes attention
            in a way that no rule has; or a pattern matches nothing.
    """
    if not declared:
        refuse_unresolved(code, widths)
        refuse_normalised(plan, code)
    found = []
    for p in plan:
        own, of_output = (code.factors.get((p.name, use), 0.0) for use in ("lookup", "product"))
        if not p.is_tied_readout:
            # a tied weight of a declared role leaves its output multiplier to the model's own code
            own, of_output = own or (0.0 if patterns.is_looked_up(p.name) else of_output), 0.0
        given = next((x for key, x in declared.items() if re.fullmatch(key, p.name)), None)
        own = own if given is None else given
        if own or of_output:
            how = described(p.name, own or of_output, code)
            note(f"{p.name}: {how}, which the plan divides out")
        found.append(replace(p, own_multiplier=own, own_output_multiplier=of_output))
    for pattern_ in declared:
        if not any(re.fullmatch(pattern_, p.name) for p in plan):
            raise InputError(
                f"model.own_multipliers: no parameter's whole name matches {pattern_!r}"
            )
    return tuple(found)


def described(name: str, power: float, code: Comparison) -> str:
    """The power of width on a matrix, with the lines that apply it."""
    lines = next((x for (owner, _), x in code.lines.items() if owner == name and x), ())
    at = f" ({'; '.join(lines)})" if lines else ""
    return f"the model's own code multiplies it by width^{power:g}{at}"


def refuse_unresolved(code: Comparison, widths: tuple[int, int]) -> None:
    """Raise InputError for a factor that no matrix takes, naming lines and values."""
    remedy = (
        "make the code the same at all widths, or give the power of width by the matrix that it "
        "acts on: model.own_multipliers {name: exponent}"
    )
    of_widths = f"at widths {widths[0]} and {widths[1]}"
    for deviation in code.unresolved:
        place = deviation.place
        names = sorted(place.reader or {name for name, _ in place.makers if name})
        near = f" beside {', '.join(names[:3])}" if names else ""
        by = f"; it multiplies {'; '.join(deviation.lines)}" if deviation.lines else ""
        raise InputError(
            f"model: its own code makes the values at {place.line}{near} scale as "
            f"width^{deviation.exponent:.2f} {of_widths} for weights that do not{by}; {remedy}"
        )
    for power, line in code.attention.items():
        if power not in (0.0, HALF) and (2 * power).is_integer():
            raise InputError(
                f"model: its own code makes attention scores ({line}) scale as width^{power:g} "
                f"{of_widths} for equal queries and keys; a scale of 1/d_head or 1/sqrt(d_head) "
                f"gives 0 or 0.5 at most; {remedy}"
            )


def refuse_normalised(plan: Sequence[BaseParameter], code: Comparison) -> None:
    """Raise InputError for a readout whose size its own code sets: no multiplier acts on it."""
    for p in plan:
        if p.name in code.normalised and (p.role == "readout" or p.is_tied_readout):
            raise InputError(
                f"{p.name}: makes the output, and the model's own code sets its size whatever its "
                "values are, so that no multiplier acts on it; normalise activations instead, or "
                f"give model.own_multipliers {{{p.name}: exponent}}, the power of width in the code"
            )


def attention_power(trace: Trace, code: Comparison) -> float | None:
    """The exponent of width in q.k times its scale; None where there is no attention."""
    if all(place.kind != "attention" for place in trace.places):
        return None
    return max(code.attention, default=0.0)
