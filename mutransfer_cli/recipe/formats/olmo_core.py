"""Format `olmo-core`: Python for a training script, written for the names of its Llama."""

from __future__ import annotations

from mutransfer_cli.recipe.formats.capability import Format
from mutransfer_cli.recipe.formats.sheet import Sheet
from mutransfer_cli.recipe.formats.template import render

# What no glob claims gets the config's own values. Two globs must not claim the same parameter, and
# a glob that matches nothing is an error.
GLOBS = {
    "embedding": ("embeddings.weight",),
    "readout": ("lm_head.w_out.weight",),
    "query": ("blocks.*.attention.w_q.weight",),
    "down": ("blocks.*.feed_forward.w2.weight",),
    "vector": ("blocks.*_norm.*weight", "lm_head.norm.weight"),
}


def write(sheet: Sheet) -> str:
    return render("olmo-core.py.jinja", sheet, globs=GLOBS)


FORMAT = Format(
    name="olmo-core",
    written_for="OLMo-core v2.5.0 to fa6c5014c (2026-06-22)",
    write=write,
    unverified=(
        "its grouping and its schedulers were run on the names of its Llama as read; init_, which "
        "expects InitMethod.normal with its fixed std, was not run there",
    ),
)
