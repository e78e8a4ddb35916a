"""`--to megatron`: flags where its own muP is the recipe's rule, else a file of overrides."""

from __future__ import annotations

import math
import shlex

from mutransfer_cli.recipe.formats.capability import Capability
from mutransfer_cli.recipe.formats.python_helper import (
    ROLES_BY_NAME,
    factor_table,
    rescale_init,
    schedule_note,
    table,
)
from mutransfer_cli.recipe.formats.sheet import Sheet, Values, comments, decay_note, number, ratio

CAPABILITY = Capability(
    name="megatron",
    written_for="Megatron-LM main (core 0.20) at d98e8a64d (2026-08-22)",
    matching="predicates, merged",
    attention_scale=True,
    unverified=(
        "its grouping and its scheduler were run on the names of a GPTModel with Transformer "
        "Engine layers as read; a training run was not",
    ),
)

PATTERNS = {
    "embedding": r"^(module\.)*embedding\.word_embeddings\.weight$",
    "readout": r"^(module\.)*output_layer\.weight$",
    "vector": r"^(module\.)*decoder\..*(layernorm\.weight|layer_norm_weight|bias)$",
}

OVERRIDES = '''

def role_of(name):
    return next((role for pattern, role in PATTERNS.items() if re.search(pattern, name)), "hidden")


def overrides():
    """One predicate a role; no parameter has two, so that nothing is merged."""
    from megatron.core.optimizer.optimizer_config import ParamKey, ParamWithNamePredicate

    def of(role):
        predicate = ParamWithNamePredicate(f"recipe_{role}", lambda _, name: role_of(name) == role)
        return ParamKey(with_name_predicate=predicate)

    return {of(role): dict(values) for role, values in GROUPS.items()}


def install():
    """Before pretrain(): these overrides in place of the standard ones."""
    import megatron.training.training as training

    original = training.get_megatron_optimizer_config

    def with_recipe(args):
        if getattr(args, "use_mup", False) or getattr(args, "decoupled_lr", None) is not None:
            raise ValueError("this recipe scales by itself; leave out --use-mup and --decoupled-lr")
        if not math.isclose(args.lr, LR, rel_tol=1e-4):
            raise ValueError(f"--lr {args.lr} is not the recipe's; start with FLAGS")
        if not math.isclose(args.weight_decay, WEIGHT_DECAY, rel_tol=1e-4):
            raise ValueError(f"--weight-decay {args.weight_decay} is not the recipe's")
        config, _ = original(args)
        return config, overrides()

    training.get_megatron_optimizer_config = with_recipe
'''

SCALE = '''

def set_attention_scale(config):
    """On the TransformerConfig, before the model is built: there is no flag for it."""
    config.softmax_scale = ATTENTION_SCALE
'''


def is_native(sheet: Sheet) -> bool:
    """Whether Megatron's rule is the recipe's up to a rescaling of weights, eps aside.

    Its rule, by weight times multiplier: rates L, L/m, L/m and L of embedding, hidden, readout and
    vectors; init stds 1, m^-1/2, 1/m of the base model's. Decay does not move with width there.
    """
    m = sheet.width_mult
    if "all" in sheet.values or any(v.weight_decay for v in sheet.values.values()):
        return False
    if sheet.values["readout"].multiplier == 1:  # folded: the model is to stay as it is
        return False
    lr = sheet.values["vector"].lr
    expected = {
        "embedding": (lr, 1.0),
        "hidden": (lr / m, m**-0.5),
        "readout": (lr / m, 1 / m),
        "vector": (lr, 1.0),
    }
    return all(
        math.isclose(v.lr * v.multiplier, expected[role][0], rel_tol=1e-9)
        and math.isclose(v.init * v.multiplier, expected[role][1], rel_tol=1e-9)
        for role, v in sheet.values.items()
    )


def write(sheet: Sheet) -> str:
    if "all" in sheet.values:
        return _global_flags(sheet)
    return _native(sheet) if is_native(sheet) else _overrides(sheet)


def _global_flags(sheet: Sheet) -> str:
    notes = [*sheet.header, *schedule_note(sheet)]
    if sheet.rest.weight_decay:
        notes.append(f"{decay_note(sheet.rest)}; Megatron gives vectors and biases none")
    return comments(notes) + _lines(_flags(sheet, sheet.rest, sheet.rest.weight_decay))


def _native(sheet: Sheet) -> str:
    """Base values, which Megatron scales."""
    base, m, scale = sheet.values["vector"], sheet.width_mult, sheet.attention_scale
    eps = ", ".join(f"{role} {x:.3g}" for role, x in _effective_eps(sheet).items())
    notes = [
        *sheet.header,
        *schedule_note(sheet),
        f"Megatron's own muP scales these by its width multiplier {m:g}, never use them with "
        "overrides by role; its rule is the recipe's up to a rescaling of embedding and readout",
        f"eps differs: for weight times multiplier the recipe's is {eps}; Megatron's is "
        f"{number(base.eps or 0.0)}, divided by {m:g} for hidden and times {m:g} for readout; no "
        "matter while it is far below the gradients",
        "add --init-method-std, that of your base model, and --untie-embeddings-and-output-weights",
    ]
    flags = [
        *_flags(sheet, base, 0.0),
        ("--use-mup",),
        ("--mup-base-hidden-size", str(sheet.recipe.base_width)),
    ]
    if scale is None or scale.formula != "1/d_head":
        flags.append(("--mup-attn-scale-power", "0.5"))
    return comments(notes) + _lines(flags)


def _effective_eps(sheet: Sheet) -> dict[str, float]:
    """Of the weights with their multipliers folded in: the smaller the gradient, the smaller."""
    return {r: v.eps / v.multiplier for r, v in sheet.values.items() if v.eps is not None}


def _overrides(sheet: Sheet) -> str:
    decay, scale = sheet.rest.weight_decay or 0.0, sheet.unusual_scale
    flags = [shlex.join(flag) for flag in _flags(sheet, sheet.rest, decay)]
    how = (
        "import this file in the training script, call install() before pretrain(), init_(model) "
        "in the model provider, and start with FLAGS; --use-mup stays out"
    )
    parts = [
        comments([*sheet.header, *schedule_note(sheet), how]),
        "\nimport math\nimport re\n\nimport torch\n\n",
        "FLAGS = [\n" + "".join(f"    {flag!r},\n" for flag in flags) + "]\n",
        f"LR, WEIGHT_DECAY = {number(sheet.rest.lr)}, {number(decay)}\n",
        "" if scale is None else f"ATTENTION_SCALE = {number(scale.value)}  # {scale.formula}\n",
        table("PATTERNS", [(pattern, repr(role), "") for role, pattern in PATTERNS.items()]),
        _groups(sheet, decay),
        factor_table(sheet),
        OVERRIDES,
        rescale_init(ROLES_BY_NAME),
        "" if scale is None else SCALE,
    ]
    return "".join(parts)


def _groups(sheet: Sheet, decay: float) -> str:
    """The floor is a rate there: one for each group keeps the ratios."""
    rows = []
    for role, v in sheet.values.items():
        wd_mult = (v.weight_decay or 0.0) / decay if decay else 0.0
        eps = "" if v.eps is None else f', "eps": {number(v.eps)}'
        content = f'"max_lr": {number(v.lr)}, "min_lr": {number(v.lr)} * FLOOR'
        note = f"{ratio(sheet, v)}; {decay_note(v)}"
        rows.append((role, f'{{{content}, "wd_mult": {number(wd_mult)}{eps}}}', note))
    floor = "FLOOR = 0.0  # last rate over the peak, of every group; --min-lr is LR * FLOOR\n"
    return floor + table("GROUPS", rows)


def _flags(sheet: Sheet, values: Values, decay: float | None) -> list[tuple[str, ...]]:
    held = sheet.holds_for
    flags: list[tuple[str, ...]] = [
        ("--optimizer", "adam"),
        ("--lr", number(values.lr)),
        ("--min-lr", number(0.0)),
    ]
    if decay is not None:
        flags.append(("--weight-decay", number(decay)))
    if values.betas is not None:
        first, second = values.betas
        flags += [("--adam-beta1", number(first)), ("--adam-beta2", number(second))]
    if values.eps is not None:
        flags.append(("--adam-eps", number(values.eps)))
    if held is not None and held.schedule is not None:
        flags += [
            ("--lr-decay-style", "WSD" if held.decay_steps else held.schedule),
            ("--lr-warmup-iters", str(held.warmup)),
            ("--lr-warmup-init", number(0.0)),
        ]
        if held.decay_steps:
            flags += [
                ("--lr-wsd-decay-style", "linear"),
                ("--lr-wsd-decay-iters", str(held.decay_steps)),
            ]
    if held is not None and held.clip is not None:
        flags.append(("--clip-grad", number(held.clip)))
    return flags


def _lines(flags: list[tuple[str, ...]]) -> str:
    return "".join(f"{shlex.join(flag)}\n" for flag in flags)
