"""Format `optax`: a Python file of one transformation, for the Llamas of Levanter and MaxText."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mutransfer_cli.recipe.formats.capability import Format
from mutransfer_cli.recipe.formats.sheet import GroupValues, Sheet, StockKind, number
from mutransfer_cli.recipe.formats.stock import refuse_tied
from mutransfer_cli.recipe.formats.template import render


@dataclass(frozen=True)
class Leaf:
    """Parameters of one kind in a tree of arrays."""

    pattern: str
    """Regex of the whole path, whose keys are joined by `/`."""
    kind: StockKind
    inputs: tuple[str, ...] = ()
    """Axes whose sizes make the fan-in."""
    axes: tuple[str, ...] = ()
    """All axes in their order; none where the arrays name them."""


_BLOCK = r"transformer/layers/(stacked|blocks/\d+)/"
LEVANTER = (
    Leaf(r"embeddings/token_embeddings/weight", "embedding"),
    Leaf(r"lm_head/weight", "readout", ("embed",)),
    Leaf(_BLOCK + r"(input|post_attention)_layernorm/weight", "vector"),
    Leaf(r"transformer/norm/weight", "vector"),
    Leaf(_BLOCK + r"self_attn/q_proj/weight", "query", ("embed",)),
    Leaf(_BLOCK + r"self_attn/[kv]_proj/weight", "hidden", ("embed",)),
    Leaf(_BLOCK + r"self_attn/o_proj/weight", "hidden", ("heads", "head_size")),
    Leaf(_BLOCK + r"mlp/(gate|up)_proj/weight", "hidden", ("embed",)),
    Leaf(_BLOCK + r"mlp/down_proj/weight", "down", ("mlp",)),
)
_LAYER = r"decoder/layers(_\d+)?/"
_HEADS = ("heads", "head_size")
MAXTEXT = (
    Leaf(r"token_embedder/embedding", "embedding", (), ("vocab", "embed")),
    Leaf(r"decoder/logits_dense/kernel", "readout", ("embed",), ("embed", "vocab")),
    Leaf(_LAYER + r"(pre|post)_self_attention_layer_norm/scale", "vector", (), ("embed",)),
    Leaf(r"decoder/decoder_norm/scale", "vector", (), ("embed",)),
    Leaf(_LAYER + r"self_attention/query/kernel", "query", ("embed",), ("embed", *_HEADS)),
    Leaf(_LAYER + r"self_attention/(key|value)/kernel", "hidden", ("embed",), ("embed", *_HEADS)),
    Leaf(_LAYER + r"self_attention/out/kernel", "hidden", _HEADS, (*_HEADS, "embed")),
    Leaf(_LAYER + r"mlp/wi_\d/kernel", "hidden", ("embed",), ("embed", "mlp")),
    Leaf(_LAYER + r"mlp/wo/kernel", "down", ("mlp",), ("mlp", "embed")),
)


def write(sheet: Sheet) -> str:
    """Queries always have a label of their own: MaxText's have other values than Levanter's.

    Raises:
        NotExpressible: a model with tied embeddings.
    """
    refuse_tied(sheet, "optax")
    groups = dict(sheet.values)
    if "all" not in groups:
        rest = groups.pop(sheet.rest_role)
        groups |= {"query": groups.pop("query", rest), sheet.rest_role: rest}
    return render(
        "optax.py.jinja",
        sheet,
        groups=groups,
        keywords=_keywords,
        steps=tuple(_steps(sheet)),
        trees={"Levanter": _rows(LEVANTER, groups), "MaxText": _rows(MAXTEXT, groups)},
    )


def _steps(sheet: Sheet) -> Iterator[str]:
    """How to apply the file, in words."""
    has_init = sheet.knows_init and "all" not in sheet.values
    yield (
        "Levanter, Marin: set as optimizer a frozen dataclass that inherits OptimizerConfig, with "
        '@OptimizerConfig.register_subclass("recipe") and build(self, num_train_steps) returning '
        "optimizer(num_train_steps)"
    )
    if has_init:
        yield (
            "and call trainer.initial_state(training_key, model_init=lambda: init_(model_key, "
            "config.model.build(Vocab, key=model_key)))"
        )
    yield (
        "MaxText: return optimizer(config.steps) in place of tx from create_training_optimizer in "
        "utils/train_utils.py"
    )
    if has_init:
        yield (
            "and call nnx.update(model, init_(jax.random.key(config.init_weights_seed), "
            "nnx.state(model, nnx.Param))) after model = _create_model_partial() in its "
            "setup_train_loop"
        )
    settings = "fused_qkv, fused_mlp and logits_via_embedding false"
    if sheet.holds_for is not None:
        clips = "this file clips" if sheet.holds_for.clip else "the fit did not clip"
        settings += f", and gradient_clipping_threshold 0, as {clips}"
    yield f"and set in its config {settings}"


def _rows(
    leaves: tuple[Leaf, ...], groups: Mapping[str, GroupValues]
) -> list[tuple[str, tuple[str, tuple[str, ...], tuple[str, ...]]]]:
    """Pairs of a pattern and its row in the file."""
    merged = [leaf.kind if leaf.kind in groups else "hidden" for leaf in leaves]
    rows = zip(leaves, merged, strict=True)
    return [(leaf.pattern, (label, leaf.inputs, leaf.axes)) for leaf, label in rows]


def _keywords(values: GroupValues) -> str:
    """Keywords of optax.adamw as a Python dictionary; a weight decay not known is None."""
    b1, b2 = values.betas or (None, None)
    found = {"learning_rate": values.lr, "b1": b1, "b2": b2, "eps": values.eps}
    known = {key: number(value) for key, value in found.items() if value is not None}
    decay = values.weight_decay
    known["weight_decay"] = "None" if decay is None else number(decay)
    return "{" + ", ".join(f'"{key}": {text}' for key, text in known.items()) + "}"


FORMAT = Format(
    name="optax",
    written_for=(
        "optax 0.2.8 and the Llama of Levanter and Marin (marin-levanter 0.2.20) or of MaxText "
        "(main at e591f30cb, 2026-08-22)"
    ),
    write=write,
    unverified=(
        "models and updates were run on one CPU; the training loops of Levanter, Marin and "
        "MaxText, and parameters sharded over devices, were not",
    ),
)
