"""Format `megatron`: flags where its own muP is the recipe's rule, otherwise overrides."""

from __future__ import annotations

import math

from mutransfer_cli.recipe.formats.capability import Format
from mutransfer_cli.recipe.formats.sheet import Sheet, decay_note, number
from mutransfer_cli.recipe.formats.template import render


def is_native(sheet: Sheet) -> bool:
    """Whether Megatron's rule is the recipe's up to a rescaling of weights, eps aside.

    With m the width multiplier, its rule for weight times multiplier is: learning rates L, L/m, L/m
    and L of embedding, hidden, readout and vectors; init stds 1, m^-1/2, 1/m and 1 times those of
    the base model. Its weight decay does not depend on width.
    """
    m = sheet.width_mult
    if "all" in sheet.values or any(v.weight_decay for v in sheet.values.values()):
        return False
    if sheet.values["readout"].multiplier == 1:  # folded: the model is to stay as it is
        return False
    lr = sheet.values["vector"].lr
    roles = {key: sheet.recipe.roles[v.role] for key, v in sheet.values.items() if v.role}
    inits = {key: role.init_std_mult.value for key, role in roles.items()}
    expected = {
        "embedding": (lr, 1.0),
        "hidden": (lr / m, m**-0.5),
        "readout": (lr / m, 1 / m),
        "vector": (lr, 1.0),
    }
    return all(
        math.isclose(v.lr * v.multiplier, expected[role][0], rel_tol=1e-9)
        and math.isclose(inits[role] * v.multiplier, expected[role][1], rel_tol=1e-9)
        for role, v in sheet.values.items()
    )


def write(sheet: Sheet) -> str:
    if is_native(sheet):  # base values, which Megatron scales
        base, notes = sheet.values["vector"], _native_notes(sheet)
        return render("megatron.args.jinja", sheet, native=True, base=base, notes=notes)
    if "all" not in sheet.values:
        return render("megatron.py.jinja", sheet)
    note = f"{decay_note(sheet.rest)}; Megatron gives vectors and biases none"
    notes = (note,) if sheet.rest.weight_decay else ()
    return render("megatron.args.jinja", sheet, native=False, base=sheet.rest, notes=notes)


def _native_notes(sheet: Sheet) -> tuple[str, ...]:
    m, base_eps = sheet.width_mult, sheet.values["vector"].eps or 0.0
    # of the weights with their multipliers folded in: a smaller gradient wants a smaller eps
    effective = {r: v.eps / v.multiplier for r, v in sheet.values.items() if v.eps is not None}
    eps = ", ".join(f"{role} {value:.3g}" for role, value in effective.items())
    return (
        f"Megatron's own muP scales these by its width multiplier {m:g}, never use them with "
        "overrides by role; its rule is the recipe's up to a rescaling of embedding and readout",
        f"eps differs: for weight times multiplier the recipe's is {eps}; Megatron's is "
        f"{number(base_eps)}, divided by {m:g} for hidden and times {m:g} for readout; no matter "
        "while it is far below the gradients",
        "add --init-method-std, that of your base model, and --untie-embeddings-and-output-weights",
    )


FORMAT = Format(
    name="megatron",
    written_for="Megatron-LM main (core 0.20) at d98e8a64d (2026-08-22)",
    write=write,
    attention_scale=True,
    scales_itself=is_native,
    unverified=(
        "its grouping and its scheduler were run on the names of a GPTModel with Transformer "
        "Engine layers as read; a training run was not",
    ),
)
