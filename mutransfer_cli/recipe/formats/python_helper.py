"""Pieces of emitted Python: plain torch, no dependency on this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mutransfer_cli.recipe.formats.sheet import (
    Sheet,
    comment,
    decay_note,
    number,
    python_values,
    ratio,
)

# names of transformers' Llama
LLAMA_PATTERNS: dict[str, tuple[str, ...]] = {
    "embedding": (r"^model\.embed_tokens\.weight$",),
    "readout": (r"^lm_head\.weight$",),
    "vector": (r"^model\.(layers\.\d+\.(input|post_attention)_layernorm|norm)\.weight$",),
    "hidden": (
        r"^model\.layers\.\d+\.self_attn\.[qkvo]_proj\.weight$",
        r"^model\.layers\.\d+\.mlp\.(gate|up|down)_proj\.weight$",
    ),
}

ROLES_BY_PATTERN = "{name: PATTERNS[pattern] for name, pattern in claimed(model).items()}"
ROLES_BY_NAME = "{name: role_of(name) for name, _ in model.named_parameters()}"

CLAIMED = '''
# of DDP, compile, FSDP and activation checkpoints
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def claimed(model):
    """The pattern of every parameter; each must have one, and each pattern a parameter. Frozen
    ones may have none and keep their values."""
    found = {}
    for name, parameter in model.named_parameters():
        bare = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        hits = [p for p in PATTERNS if re.search(p, name) or re.search(p, bare)]
        if not hits and not parameter.requires_grad:
            continue
        if len(hits) != 1:
            raise ValueError(f"{name}: claimed by {len(hits)} patterns {hits}; correct PATTERNS")
        found[name] = hits[0]
    unused = set(PATTERNS) - set(found.values())
    if unused:
        raise ValueError(f"no parameter matches {sorted(unused)}; tied or renamed weights?")
    return found


def param_groups(model):
    """Parameter groups for a torch optimizer, one a role."""
    found, groups = claimed(model), {role: [] for role in GROUPS}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[PATTERNS[found[name]]].append(parameter)
    return [{"params": groups[role], "role": role, **GROUPS[role]} for role in GROUPS]
'''

INIT = '''

def init_(model):
    """Normal values at this width, around 1 for gains."""
    found = claimed(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in found:
                mean, std = INIT[found[name]]
                parameter.normal_(mean, std)
'''

RESCALE_INIT = '''

def init_(model):
    """Once, on a new model whose own init stds do not depend on width: scales them by role."""
    roles = {roles}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in roles:
                parameter.mul_(INIT_FACTORS[roles[name]])
'''


def table(name: str, rows: Sequence[tuple[str, str, str]], note: str = "") -> str:
    """A dictionary, of rows (key, value, comment); keys are text, values Python source."""
    above = "".join(f"{line}\n" for line in comment(note)) if note else ""
    body = ""
    for key, value, said in rows:
        body += f"    # {said}\n" if said else ""
        body += f"    {key!r}: {value},\n"
    return f"{above}{name} = {{\n{body}}}\n"


def pattern_table(patterns: Mapping[str, Sequence[str]]) -> str:
    """Text is written by repr: nothing in it can end its string."""
    rows = [(pattern, repr(role), "") for role, found in patterns.items() for pattern in found]
    return table("PATTERNS", rows, "parameters by name (regex), and their role")


def group_table(sheet: Sheet, more: Mapping[str, str] | None = None) -> str:
    """
    Args:
        more: by role, further keywords of its optimizer.
    """
    added = more or {}
    rows = [
        (
            role,
            f"{{{python_values(v)}{added.get(role, '')}}}",
            f"{ratio(sheet, v)}; {decay_note(v)}",
        )
        for role, v in sheet.values.items()
    ]
    return table("GROUPS", rows, "learning rates are peaks of the schedule")


def own_patterns(sheet: Sheet) -> dict[str, tuple[str, ...]]:
    return {key: tuple(p.pattern for p in found) for key, found in sheet.patterns.items()}


def init_table(sheet: Sheet) -> str:
    rows = [
        (p.pattern, f"({number(p.init_mean)}, {number(p.init_std.value)})", "")
        for found in sheet.patterns.values()
        for p in found
    ]
    return table("INIT", rows, "mean and std")


def factor_table(sheet: Sheet, own: Mapping[str, float] | None = None) -> str:
    """
    Args:
        own: by role, the exponent of width in the target's own init std; 0 if not given.
    """
    exponents = own or {}
    rows = [
        (role, number(v.init * sheet.width_mult ** -exponents.get(role, 0.0)), "")
        for role, v in sheet.values.items()
    ]
    return table("INIT_FACTORS", rows, "of the init std, against the target's own init")


def rescale_init(names_roles: str) -> str:
    """
    Args:
        names_roles: a Python expression of `model`: the role of every parameter by name.
    """
    return RESCALE_INIT.format(roles=names_roles)


def schedule_note(sheet: Sheet) -> list[str]:
    """Schedule and clipping of the fit in words, for what a target's own keys do not say."""
    held = sheet.holds_for
    if held is None or held.schedule is None:
        return ["schedule: not known; use that of your runs, with a floor as a ratio, not a rate"]
    end = "held constant" if held.schedule == "constant" else f"{held.schedule} decay to zero"
    if held.decay_steps:
        last = f"in the last {held.decay_steps} ({held.decay_fraction:g} of all)"
        end = f"held constant, {last} linear decay to zero"
    clip = f"gradients clipped at norm {held.clip:g}" if held.clip else "no gradient clipping known"
    return [f"schedule of the fit: warm-up {held.warmup} of {held.steps} steps, {end}; {clip}"]
