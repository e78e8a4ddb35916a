"""Format `torchtitan`: Python for a config function, written for the names of its Llama 3."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from mutransfer_cli.errors import NotExpressible
from mutransfer_cli.recipe.formats.capability import ADAM, Format
from mutransfer_cli.recipe.formats.sheet import GroupValues, Sheet, number
from mutransfer_cli.recipe.formats.stock import tied
from mutransfer_cli.recipe.formats.template import render

# The first match wins; (_\w+\.)* are wrappers of blocks, such as _checkpoint_wrapped_module.
_ATTENTION = r"^layers\.\d+\.(_\w+\.)*attention\.(_\w+\.)*"
_FEED_FORWARD = r"^layers\.\d+\.(_\w+\.)*feed_forward\.(_\w+\.)*"
PATTERNS = {
    "embedding": (r"^tok_embeddings\.weight$",),
    "readout": (r"^lm_head\.weight$",),
    "vector": (r"^(layers\.\d+\.(_\w+\.)*(attention_norm|ffn_norm)|norm)\.weight$",),
    "query": (_ATTENTION + r"qkv_linear\.(_\w+\.)*wq\.weight$",),
    "down": (_FEED_FORWARD + r"w2\.weight$",),
    # wqkv is wq, wk and wv in one; wkv is what configs call wk and wv
    "hidden": (
        r"^layers\.\d+\.(_\w+\.)*(attention|feed_forward)\.(_\w+\.)*"
        r"(qkv_linear\.(_\w+\.)*(wq|wk|wv|wkv|wqkv)|wo|w1|w2|w3)\.weight$",
    ),
    "all": (r".*",),
}
MATRICES = (
    *(f"attention.qkv_linear.{name}.weight" for name in ("wq", "wk", "wv")),
    "attention.wo.weight",
    *(f"feed_forward.{name}.weight" for name in ("w1", "w2", "w3")),
)
STAGES = (
    "with pipeline parallelism torchtitan stops, as a pattern that claims nothing on a stage is an "
    "error there"
)
MUON = (
    "DistMuon takes parameters on CUDA that FSDP shards, without tensor parallelism",
    "not verified: DistMuon on CUDA; its steps were taken on a CPU, with that check left out",
)


def write(sheet: Sheet) -> str:
    hidden = {key: v for key, v in sheet.values.items() if v.role == "hidden"}
    is_muon = sheet.optimizer == "muon"
    more: dict[str, dict[str, str]] = {}
    if is_muon:
        _refuse_several_rates(hidden)
        more = dict.fromkeys(hidden, _muon_keywords(sheet.recipe.optimizer or {}))
    notes = () if "all" in sheet.values else (STAGES, *_fused_note(sheet))
    notes += MUON if is_muon else ()
    return render(
        "torchtitan.py.jinja",
        replace(sheet, header=(*sheet.header, *notes)),
        patterns=[(pattern, role) for role in sheet.values for pattern in PATTERNS[role]],
        muon=tuple(hidden) if is_muon else (),
        matrices=MATRICES,
        more=more,
        keeps_fused=not is_muon and "query" in sheet.values,
        tied=tied(sheet),
    )


def _muon_keywords(settings: dict[str, object]) -> dict[str, str]:
    """Keywords of DistMuon beside rate and weight decay; it has neither kernel of AdamW."""
    momentum = settings["momentum"]
    assert isinstance(momentum, float)
    return {
        "momentum": number(momentum),
        "nesterov": "True",
        "adjust_lr_fn": repr(settings["lr_adjustment"]),
        "foreach": "False",
        "fused": "False",
    }


def _refuse_several_rates(hidden: dict[str, GroupValues]) -> None:
    """DistMuon takes one group, and so one rate for all of its matrices.

    Raises:
        NotExpressible: the recipe has several.
    """
    one = hidden["hidden"]
    same = all(
        math.isclose(a or 0.0, b or 0.0, rel_tol=1e-9)
        for values in hidden.values()
        for a, b in ((values.lr, one.lr), (values.weight_decay, one.weight_decay))
    )
    if not same:
        rates = ", ".join(f"{kind} {values.lr:.4g}" for kind, values in hidden.items())
        raise NotExpressible(
            "to torchtitan: its DistMuon has one learning rate and one weight decay for all "
            f"matrices, the recipe several ({rates}); an attention scale of 1/sqrt(d_head) and "
            "inner sizes proportional to width need one, or write pytorch",
            setting="to",
        )


def _fused_note(sheet: Sheet) -> Iterator[str]:
    """State what is not the recipe's where queries, keys and values stay one matrix."""
    query, rest = sheet.values.get("query"), sheet.rest
    if query is None or sheet.optimizer == "muon":
        return
    pairs = {
        "learning rate": (rest.lr, query.lr),
        "weight decay": (rest.weight_decay, query.weight_decay),
        "eps": (rest.eps, query.eps),
    }
    known = {name: a / b for name, (a, b) in pairs.items() if a and b}
    off = [f"{name} is {x:.4g} times" for name, x in known.items() if not math.isclose(x, 1)]
    if off:
        yield (
            "set_up(..., keep_fused=True) leaves queries, keys and values one matrix, which trains "
            "with the values of hidden; the init of its query rows is exact, but against the "
            f"recipe their {', '.join(off)}"
        )


FORMAT = Format(
    name="torchtitan",
    written_for="torchtitan 0.3.0 (PyPI) and main at b5bcd76c6 (2026-08-21)",
    write=write,
    optimizers=ADAM | {"muon"},
    unverified=("its steps on a GPU: they were taken on a CPU, with torch's own attention",),
)
