"""Format `megatron`: a Python file of overrides by role, or flags for one global rate.

Megatron's own muP (`--use-mup`) is not written: no flag says the recipe's init there, as Megatron
draws matrices of every fan-in with one std, and divides it by sqrt(2 * layers) for the projections
back to the residual stream.
"""

from __future__ import annotations

import re

from mutransfer_cli.errors import NotExpressible
from mutransfer_cli.recipe.formats.capability import ADAM, Format
from mutransfer_cli.recipe.formats.sheet import GroupValues, Sheet, decay_note, number
from mutransfer_cli.recipe.formats.template import render

# Parameters of a GPTModel with local layers or with Transformer Engine's. The first match wins; a
# parameter without a match is refused.
MODEL = r"^(module\.)*"
BLOCK = MODEL + r"decoder\.layers\.\d+\."
PATTERNS = {
    MODEL + r"embedding\.(word|position)_embeddings\.weight$": "embedding",
    MODEL + r"output_layer\.weight$": "readout",
    MODEL + r"decoder\.final_layernorm\.(weight|bias)$": "vector",
    BLOCK + r"(input|pre_mlp)_layernorm\.(weight|bias)$": "vector",
    BLOCK + r"\w+\.linear_\w+\.(layer_norm_weight|layer_norm_bias|bias)$": "vector",
    BLOCK + r"mlp\.linear_fc2\.weight$": "down",
    BLOCK + r"(self_attention\.linear_(qkv|proj)|mlp\.linear_fc1)\.weight$": "hidden",
}
ONE_QKV = re.compile(r"(.*\.)?(\w*qkv\w*|c_attn|query_key_value|in_proj)[._]weight", re.IGNORECASE)
ONE_KV = re.compile(r"(.*\.)?(kv|kv_proj)\.weight")
GATE = re.compile(r"(.*\.)?(gate|gate_proj|w1|wi_0)\.weight")
MUON = (
    "Muon is that of core 0.18 and later with the package emerging-optimizers; earlier ones have "
    "other flags, and their iteration other coefficients than the sweep's"
)
SCALE_MODES = {"original": ("shape_scaling", 1.0), "match_rms_adamw": ("spectral", 0.2)}


def write(sheet: Sheet) -> str:
    if "all" in sheet.values:
        note = f"{decay_note(sheet.rest)}; Megatron gives vectors and biases none"
        notes = (note,) if sheet.rest.weight_decay else ()
        return render("megatron.args.jinja", sheet, notes=notes)
    muon = _muon(sheet) if sheet.optimizer == "muon" else {}
    notes = (MUON,) if muon else ()
    return render(
        "megatron.py.jinja",
        sheet,
        patterns=patterns_of(sheet),
        groups=groups_of(sheet),
        adam=sheet.values["embedding"] if muon else sheet.rest,
        muon=muon,
        notes=notes,
    )


def patterns_of(sheet: Sheet) -> dict[str, str]:
    """Roles by pattern."""
    return {
        pattern: role if role in sheet.values else "hidden" for pattern, role in PATTERNS.items()
    }


def groups_of(sheet: Sheet) -> dict[str, GroupValues]:
    """Groups beside the default one, which has the rates of the flags, and whose rate is logged.

    Queries are rows of a matrix of the default group, and have an init of their own alone.
    """
    own = (sheet.rest_role, "query")
    return {role: values for role, values in sheet.values.items() if role not in own}


def _muon(sheet: Sheet) -> dict[str, str]:
    """Flags of Muon, by name.

    Raises:
        NotExpressible: matrices that Megatron would orthogonalise together, unlike the sweep.
    """
    apart = {"gate and up": GATE, "queries, and keys with values,": ONE_KV}
    for what, names in apart.items():
        if any(names.fullmatch(name) for name in sheet.swept):
            raise NotExpressible(
                f"to megatron: the sweep orthogonalised {what} apart, and Megatron's Muon has no "
                "flag for it; write pytorch, or sweep adamw",
                setting="to",
            )
    settings = sheet.recipe.optimizer or {}
    mode, factor = SCALE_MODES[settings["lr_adjustment"]]
    flags = {
        "--muon-momentum": number(settings["momentum"]),
        "--muon-nesterov": "",
        "--muon-scale-mode": mode,
        "--muon-extra-scale-factor": number(factor),
        "--muon-coefficient-type": "simple",
        "--muon-num-ns-steps": "5",
        "--muon-tp-mode": "duplicated",
    }
    if any(ONE_QKV.fullmatch(name) for name in sheet.swept):
        flags["--muon-no-split-qkv"] = ""
    return flags


RUN_ON = (
    "run with local layers in one process on a CPU: not with Transformer Engine's layers, whose "
    "names were read, nor with the distributed optimizer, nor init_ on the shards of tensor "
    "parallelism"
)
FORMAT = Format(
    name="megatron",
    written_for="Megatron-LM from core 0.16.0 to main (core 0.20) at d98e8a64d (2026-08-22)",
    write=write,
    global_suffix=".args",
    optimizers=ADAM | {"muon"},
    attention_scale=True,
    fused_queries=True,
    unverified=(RUN_ON,),
)
