"""`--to transformers`: a Python file for the Trainer, written for the names of Llama."""

from __future__ import annotations

from mutransfer_cli.recipe.formats.capability import Capability
from mutransfer_cli.recipe.formats.python_helper import (
    CLAIMED,
    INIT,
    LLAMA_PATTERNS,
    ROLES_BY_PATTERN,
    factor_table,
    group_table,
    init_table,
    own_patterns,
    pattern_table,
    rescale_init,
    schedule_note,
    table,
)
from mutransfer_cli.recipe.formats.sheet import Sheet, comments, number

CAPABILITY = Capability(
    name="transformers",
    written_for="transformers 5.23, Trainer with Llama",
    matching="regex, each parameter exactly once",
    any_names=True,
    attention_scale=True,
)

OPTIMIZER = '''

def optimizer(model):
    """For Trainer(model, args, optimizers=(optimizer(model), None)): the Trainer then makes the
    schedule, which multiplies each group's rate."""
    return torch.optim.AdamW(param_groups(model))
'''

SCALE = '''

def set_attention_scale_(model):
    """Once, after the model is built: the config has no key for it."""
    found = [module for module in model.modules() if hasattr(module, "q_proj")]
    if not found or not all(hasattr(module, "scaling") for module in found):
        raise ValueError("no attention with q_proj and scaling; set the scale in the model's code")
    for module in found:
        module.scaling = ATTENTION_SCALE
'''

SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant_with_warmup",
    "wsd": "warmup_stable_decay",
}


def write(sheet: Sheet) -> str:
    everything, own = "all" in sheet.values, own_patterns(sheet)
    patterns = {"all": (".*",)} if everything else own or LLAMA_PATTERNS
    factors = "" if everything else init_table(sheet) if own else factor_table(sheet)
    init = "" if everything else INIT if own else rescale_init(ROLES_BY_PATTERN)
    scale = sheet.unusual_scale
    parts = [
        comments([*sheet.header, *schedule_note(sheet)]),
        "\nimport re\n\nimport torch\n\n",
        pattern_table(patterns),
        group_table(sheet),
        factors,
        _arguments(sheet),
        "" if scale is None else f"ATTENTION_SCALE = {number(scale.value)}  # {scale.formula}\n",
        CLAIMED,
        OPTIMIZER,
        init,
        "" if scale is None else SCALE,
    ]
    return "".join(parts)


def _arguments(sheet: Sheet) -> str:
    """Learning rate and weight decay are the groups'."""
    held, rows = sheet.holds_for, list[tuple[str, str, str]]()
    if held is not None and held.schedule is not None:
        rows = [
            ("lr_scheduler_type", repr(SCHEDULES[held.schedule]), ""),
            ("warmup_steps", str(held.warmup), ""),
        ]
    if held is not None and held.decay_steps:
        decay = {"num_decay_steps": held.decay_steps, "decay_type": "linear"}
        rows.append(("lr_scheduler_kwargs", repr(decay), ""))
    if held is not None and held.clip is not None:
        rows.append(("max_grad_norm", number(held.clip), ""))
    return table("TRAINING_ARGUMENTS", rows, "for TrainingArguments(..., **TRAINING_ARGUMENTS)")
