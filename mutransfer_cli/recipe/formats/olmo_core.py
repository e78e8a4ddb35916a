"""Format `olmo-core`: Python for a training script, written for the names of its Llama."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mutransfer_cli.recipe.formats.capability import Format
from mutransfer_cli.recipe.formats.sheet import Sheet
from mutransfer_cli.recipe.formats.stock import tied
from mutransfer_cli.recipe.formats.template import render

# The first match wins. In a config two globs must not claim the same parameter, and a glob that
# matches nothing is an error, so that hidden matrices get the config's own values.
GLOBS = {
    "embedding": ("embeddings.weight",),
    "readout": ("lm_head.w_out.weight",),
    "query": ("blocks.*.attention.w_q.weight",),
    "down": ("blocks.*.feed_forward.w2.weight",),
    "vector": ("blocks.*_norm.*weight", "lm_head.norm.weight"),
    "hidden": (
        *("blocks.*.attention.w_[qkv].weight", "blocks.*.attention.w_qkv.weight"),
        *("blocks.*.attention.w_out.weight", "blocks.*.feed_forward.w[123].weight"),
    ),
}


def write(sheet: Sheet) -> str:
    globs = [(glob, role) for role in sheet.values if role in GLOBS for glob in GLOBS[role]]
    sheet = replace(sheet, header=(*sheet.header, *_schedule_note(sheet)))
    return render("olmo-core.py.jinja", sheet, globs=globs, tied=tied(sheet))


def _schedule_note(sheet: Sheet) -> Iterator[str]:
    held = sheet.holds_for
    if held is not None and held.schedule not in (None, "constant"):
        yield "OLMo-core decays one step ahead of the fit, so that its last step has rate 0"


FORMAT = Format(
    name="olmo-core",
    written_for="ai2-olmo-core 3.0.0 (PyPI)",
    write=write,
    unverified=("its steps on a GPU: they were taken on a CPU",),
)
