"""Format `nanochat`: a Python file with groups for the MuonAdamW of its GPT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mutransfer_cli.recipe.formats.capability import ADAM, Format
from mutransfer_cli.recipe.formats.sheet import GroupValues, Sheet, StockKind
from mutransfer_cli.recipe.formats.stock import refuse_tied
from mutransfer_cli.recipe.formats.template import render

PATTERNS: dict[str, StockKind] = {
    r"^transformer\.wte\.weight$": "embedding",
    r"^lm_head\.weight$": "readout",
    r"^transformer\.h\.\d+\.attn\.c_q\.weight$": "query",
    r"^transformer\.h\.\d+\.mlp\.c_proj\.weight$": "down",
    r"^transformer\.h\.\d+\.(attn\.c_(k|v|proj)|mlp\.c_fc)\.weight$": "hidden",
}
# what the models of a fit do not have
OWN = (
    r"^value_embeds\.\d+\.weight$",
    r"^transformer\.h\.\d+\.attn\.ve_gate\.weight$",
    r"^smear_gate\.weight$",
    r"^(resid_lambdas|x0_lambdas|smear_lambda|backout_lambda)$",
)


def write(sheet: Sheet) -> str:
    """nanochat's GPT has no gains, so that the values of vectors are left out.

    Raises:
        NotExpressible: a model with tied embeddings.
    """
    refuse_tied(sheet, "nanochat")
    groups = {key: _completed(v) for key, v in sheet.values.items() if key != "vector"}
    by_muon = [key for key, v in groups.items() if sheet.optimizer == "muon" and v.role == "hidden"]
    return render(
        "nanochat.py.jinja",
        sheet,
        groups=groups,
        by_muon=by_muon,
        patterns=[(p, key if key in groups else "hidden") for p, key in PATTERNS.items()],
        own=OWN,
        settings=sheet.recipe.optimizer or {},
        steps=tuple(_steps(sheet)),
    )


def _steps(sheet: Sheet) -> Iterator[str]:
    """How to apply the file in scripts/base_train.py, and what it leaves alone, in words."""
    if "all" not in sheet.values:
        yield (
            "value_embeds, ve_gate, smear_gate, resid_lambdas, x0_lambdas, smear_lambda and "
            "backout_lambda keep nanochat's own init, optimizer and rates: the recipe has no "
            "values for them"
        )
        yield (
            "nanochat's GPT is not a Llama (relu^2, normalised queries and keys, capped logits, no "
            "gains): the fit holds for it only as far as its models were alike"
        )
    yield "in scripts/base_train.py:"
    if sheet.knows_init and "all" not in sheet.values:
        yield "- after model.init_weights(), call init_(model)"
    yield (
        "- after optimizer = model.setup_optimizer(...), set optimizer = optimizer_of(orig_model, "
        "optimizer): its factor (d/768)^-0.5, and those of the script by batch and horizon, act on "
        "nothing that this file gives a value"
    )
    yield "- replace get_lr_multiplier(step) by lr_multiplier(step, num_iterations)"
    if sheet.optimizer == "muon":
        yield (
            "- replace group['kind'] == 'muon' by group['kind'] == 'muon' and 'role' not in group, "
            "as momentum and weight decay of the fit were constant"
        )
    if sheet.holds_for and sheet.holds_for.clip:
        yield "- before the optimizer's step, and after scaler.unscale_, call clip_(orig_model)"


def _also_loses(sheet: Sheet) -> Iterator[str]:
    """Own results may be those of nanochat's Muon; the Muon of a sweep is another."""
    if sheet.optimizer == "muon" and sheet.recipe.provenance.data_sha256 is not None:
        yield (
            "Muon as it was swept (nanochat's equalises the rows of a gradient before it "
            "orthogonalises them and evens out neurons after it, and decays only those weights "
            "that the update makes smaller)"
        )


def _completed(values: GroupValues) -> GroupValues:
    """The values with those that torch.optim.AdamW would add; MuonAdamW has no defaults."""
    eps = 1e-8 if values.eps is None else values.eps
    return replace(values, betas=values.betas or (0.9, 0.999), eps=eps)


FORMAT = Format(
    name="nanochat",
    written_for="nanochat main at 92d63d4e8 (2026-07-03)",
    write=write,
    optimizers=ADAM | {"muon"},
    fused_queries=True,
    also_loses=_also_loses,
    unverified=(
        "model and optimizer were run on one CPU; scripts/base_train.py, bf16 and several ranks "
        "were not",
    ),
)
