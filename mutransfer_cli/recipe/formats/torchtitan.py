"""Format `torchtitan`: Python for a config function, written for the names of its Llama 3."""

from __future__ import annotations

from mutransfer_cli.recipe.formats.capability import Format
from mutransfer_cli.recipe.formats.sheet import Sheet
from mutransfer_cli.recipe.formats.template import render

# The first match wins, a pattern that claims nothing is an error, and so the last one claims all
# that is left; (_\w+\.)* are wrappers of blocks, such as _checkpoint_wrapped_module.
PATTERNS = {
    "embedding": r"^tok_embeddings\.weight$",
    "readout": r"^lm_head\.weight$",
    "query": r"^layers\.\d+\.(_\w+\.)*attention\.(_\w+\.)*qkv_linear\.(_\w+\.)*wq\.weight$",
    "down": r"^layers\.\d+\.(_\w+\.)*feed_forward\.(_\w+\.)*w2\.weight$",
    "vector": r"^(layers\.\d+\.(_\w+\.)*(attention_norm|ffn_norm)|norm)\.weight$",
    "hidden": r"^.*$",
    "all": r"^.*$",
}


def write(sheet: Sheet) -> str:
    return render("torchtitan.py.jinja", sheet, patterns=PATTERNS)


FORMAT = Format(
    name="torchtitan",
    written_for=(
        "torchtitan main from 970fbddb3 (2026-08-17) to b5bcd76c6 (2026-08-21); trees whose groups "
        "are AdamW.Config(pattern=...) instead of ParamGroupConfig need another file"
    ),
    write=write,
    unverified=(
        "its grouping and its scheduler were run on the names of its Llama 3 as read; set_init, "
        "which walks the fields of Llama3Model.Config, was not run there",
        "with pipeline parallelism a pattern without a parameter on a stage is an error there",
    ),
)
