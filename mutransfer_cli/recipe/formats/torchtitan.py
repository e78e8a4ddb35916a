"""`--to torchtitan`: Python for a config function, written for the names of its Llama 3."""

from __future__ import annotations

from mutransfer_cli.recipe.formats.capability import Capability
from mutransfer_cli.recipe.formats.python_helper import factor_table, schedule_note
from mutransfer_cli.recipe.formats.sheet import (
    Sheet,
    Values,
    comment,
    comments,
    decay_note,
    number,
    python_values,
    ratio,
)

CAPABILITY = Capability(
    name="torchtitan",
    written_for=(
        "torchtitan main from 970fbddb3 (2026-08-17) to b5bcd76c6 (2026-08-21); trees whose groups "
        "are AdamW.Config(pattern=...) instead of ParamGroupConfig need another file"
    ),
    matching="regex, first match wins",
    folds_attention=True,
    unverified=(
        "its grouping and its scheduler were run on the names of its Llama 3 as read; scale_init, "
        "which walks the fields of Llama3Model.Config, was not run there",
        "with pipeline parallelism a pattern without a parameter on a stage is an error there",
    ),
)

# the last claims all that is left: a pattern that claims nothing is an error; (_\w+\.)* are
# wrappers of blocks, such as _checkpoint_wrapped_module
PATTERNS = {
    "embedding": r"^tok_embeddings\.weight$",
    "readout": r"^lm_head\.weight$",
    "query": r"^layers\.\d+\.(_\w+\.)*attention\.(_\w+\.)*qkv_linear\.(_\w+\.)*wq\.weight$",
    "vector": r"^(layers\.\d+\.(_\w+\.)*(attention_norm|ffn_norm)|norm)\.weight$",
    "hidden": r"^.*$",
    "all": r"^.*$",
}

OWN_INIT = {"readout": -0.5}  # lm_head's own std is dim**-0.5, all others do not know of width

SCALE_INIT = '''

def scale_init(config, path=""):
    """On a new Llama3Model.Config (model_spec.model): scales the std of each param_init by role."""
    if isinstance(config, (list, tuple)):
        for index, item in enumerate(config):
            scale_init(item, f"{path}{index}.")
        return
    for field in dataclasses.fields(config) if dataclasses.is_dataclass(config) else ():
        value = getattr(config, field.name)
        if field.name == "param_init" and value is not None:
            scaled = {key: _scaled(init, role_of(path + key)) for key, init in value.items()}
            config.param_init = scaled
        elif field.name != "param_init":
            scale_init(value, f"{path}{field.name}.")


def role_of(name):
    return next(role for pattern, role in PATTERNS if re.search(pattern, name))


def _scaled(init, role):
    def scaled(parameter):
        init(parameter)
        with torch.no_grad():
            parameter.mul_(INIT_FACTORS[role])

    return scaled
'''


def write(sheet: Sheet) -> str:
    everything = "all" in sheet.values
    imports = "import dataclasses\nimport re\n\nimport torch\n" if not everything else ""
    scheduler = _scheduler(sheet)
    names = ["LRSchedulersContainer"] if scheduler else []
    names += ["OptimizersContainer", "ParamGroupConfig"]
    parts = [
        comments([*sheet.header, *schedule_note(sheet)]),
        f"\n{imports}from torchtitan.components.optimizer import (\n",
        *(f"    {name},\n" for name in names),
        ")\n\n",
        _param_groups(sheet),
        scheduler,
    ]
    if not everything:
        rows = "".join(f"    ({PATTERNS[role]!r}, {role!r}),\n" for role in sheet.values)
        parts += [f"PATTERNS = [\n{rows}]\n", factor_table(sheet, OWN_INIT), SCALE_INIT]
    return "".join(parts)


def _param_groups(sheet: Sheet) -> str:
    lines = [
        *comment("Trainer.Config(optimizer=OPTIMIZER, ...); patterns are tried in this order"),
        "OPTIMIZER = OptimizersContainer.Config(",
        "    param_groups=[",
        *(line for role, v in sheet.values.items() for line in _group(sheet, role, v)),
        "    ],",
        ")",
    ]
    return "\n".join(lines) + "\n"


def _group(sheet: Sheet, role: str, values: Values) -> list[str]:
    return [
        "        ParamGroupConfig(",
        f"            pattern={PATTERNS[role]!r},",
        '            optimizer_name="AdamW",',
        f"            # {role}: {ratio(sheet, values)}; {decay_note(values)}",
        f"            optimizer_kwargs={{{python_values(values)}}},",
        "        ),",
    ]


def _scheduler(sheet: Sheet) -> str:
    held = sheet.holds_for
    if held is None or held.schedule is None:
        return ""
    decay = "decay_ratio=0.0" if held.schedule == "constant" else f"decay_type={held.schedule!r}"
    if held.decay_fraction:
        decay = f"decay_ratio={number(held.decay_fraction)}, decay_type='linear'"
    return (
        "LR_SCHEDULER = LRSchedulersContainer.Config(\n"
        f"    warmup_steps={held.warmup}, {decay}, min_lr_factor={number(0.0)}\n)\n"
    )
