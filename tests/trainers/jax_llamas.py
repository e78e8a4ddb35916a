"""Llamas of trainers in JAX, of the sizes of the tests: that of Marin's Levanter and MaxText's."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainers.conftest import DEPTH, HEADS, VOCAB, WIDTH
from tests.trainers.outside import commit, stand_ins

jax = pytest.importorskip("jax")
jnp = jax.numpy
transformers = pytest.importorskip("transformers")

STEPS = 10
TOKENS = np.random.default_rng(0).integers(0, VOCAB, (2, 16))
Tree = Any


@dataclass
class Built:
    """A trainer's Llama of the test's sizes."""

    name: str
    params: Tree
    """Its own tree, in 32 bits."""
    start: Callable[[Any], None]
    """Gives it the values of a tree."""
    trained: Callable[[Any], list[float]]
    """Losses of three steps of the trainer's own code with a transformation, on one batch."""
    layers: int
    """Axis of scanned layers."""
    llama: Callable[[str], str]
    """Name of a parameter in transformers, with `*` for the layer."""
    query_factor: float = 1.0
    """Factor of the attention that its forward pass lacks."""
    outputs: Callable[[], Any] | None = None


LEVANTER_CONFIG = {
    "max_seq_len": 16,
    "hidden_dim": WIDTH,
    "intermediate_dim": 4 * WIDTH,
    "num_heads": HEADS,
    "num_kv_heads": HEADS,
    "num_layers": DEPTH,
}


def levanter_llama() -> Built:
    """Levanter with stand-ins for what logs (wandb), reads data (datasets) and starts jobs (fray,
    iris): none of it is used here."""
    transformers.utils.is_datasets_available()  # transformers keeps the answer
    pytest.importorskip("haliax")
    with stand_ins("wandb", "datasets", "fray", "iris"):
        equinox: Any = import_module("equinox")
        haliax: Any = import_module("haliax")
        llamas: Any = import_module("levanter.models.llama")
        example: Any = import_module("levanter.models.lm_model").LmExample
        optim: Any = import_module("levanter.optim")
        state_class: Any = import_module("levanter.trainer_state").TrainerState
    vocab = haliax.Axis("vocab", VOCAB)
    config = llamas.LlamaConfig(**LEVANTER_CONFIG)
    model = llamas.LlamaLMHeadModel.init(vocab, config, key=jax.random.key(0))
    tokens = haliax.named(jnp.asarray(TOKENS[0]), haliax.Axis("position", 16))

    def start(params: Tree) -> None:
        nonlocal model
        model = params

    def trained(optimizer: Any) -> list[float]:
        @optim.OptimizerConfig.register_subclass("recipe")
        @dataclasses.dataclass(frozen=True)
        class Recipe(optim.OptimizerConfig):  # type: ignore[misc]
            def build(self, num_train_steps: int) -> Any:
                return optimizer(num_train_steps)

        made = optim.OptimizerConfig.get_choice_class("recipe")().build(STEPS)
        state, losses = state_class.init(made, model, key=jax.random.key(0)), []
        loss_of = equinox.filter_value_and_grad(
            lambda model: model.compute_next_token_loss(example.causal(tokens)).scalar()
        )

        def step(state: Any) -> Any:
            loss, grads = loss_of(state.model)
            return loss, state.take_step(grads, loss=loss, key=state.training_key)[0]

        compiled = equinox.filter_jit(step)
        for _ in range(3):
            loss, state = compiled(state)
            losses.append(float(loss))
        return losses

    def llama(name: str) -> str:
        name = name.removeprefix("transformer/").replace("layers/stacked", "layers/*")
        inner = {"embeddings/token_embeddings/weight": "model/embed_tokens/weight"}.get(name, name)
        is_outer = inner.startswith(("model/", "lm_head/"))
        return (inner if is_outer else f"model/{inner}").replace("/", ".")

    name = f"marin-levanter {version('marin-levanter')}, Llama"
    return Built(name, model, start, trained, 0, llama)


MAXTEXT_CONFIG = {
    "run_name": "recipe",
    "base_output_directory": "unused",
    "hardware": "cpu",
    "enable_checkpointing": False,
    "skip_jax_distributed_system": True,
    "dataset_type": "synthetic",
    "decoder_block": "llama2",
    "base_emb_dim": WIDTH,
    "base_mlp_dim": 4 * WIDTH,
    "base_num_query_heads": HEADS,
    "base_num_kv_heads": HEADS,
    "base_num_decoder_layers": DEPTH,
    "head_dim": WIDTH // HEADS,
    "vocab_size": VOCAB,
    "max_target_length": 16,
    "per_device_batch_size": 2,
    "attention": "dot_product",
    "mlp_activations": "['silu','linear']",
    "dtype": "float32",
    "matmul_precision": "highest",
    "normalization_layer_epsilon": 1e-6,
    "rope_max_timescale": 10000,
    "gradient_clipping_threshold": 0,
}
MAXTEXT_NAMES = {
    "token_embedder/embedding": "model.embed_tokens.weight",
    "decoder/decoder_norm/scale": "model.norm.weight",
    "decoder/logits_dense/kernel": "lm_head.weight",
    "pre_self_attention_layer_norm/scale": "input_layernorm",
    "post_self_attention_layer_norm/scale": "post_attention_layernorm",
    "self_attention/query/kernel": "self_attn.q_proj",
    "self_attention/key/kernel": "self_attn.k_proj",
    "self_attention/value/kernel": "self_attn.v_proj",
    "self_attention/out/kernel": "self_attn.o_proj",
    "mlp/wi_0/kernel": "mlp.gate_proj",
    "mlp/wi_1/kernel": "mlp.up_proj",
    "mlp/wo/kernel": "mlp.down_proj",
}
# logging, tokenizers, loading of data, quantization, checkpoints and kernels for accelerators
MAXTEXT_ABSENT = (
    *("grain", "datasets", "tiktoken", "sentencepiece", "fastapi", "uvicorn", "drjax", "etils"),
    *("qwix", "pathwaysutils", "treescope", "orbax", "einshape", "tokamax"),
    *("maxtext.kernels.mhc", "maxtext.common.grain_utility"),  # Python 3.12; a subclass of grain's
)


def maxtext_llama() -> Built:
    """MaxText's Transformer with stand-ins for what is not used here."""
    source = os.environ.get("MAXTEXT")
    if source is None:
        pytest.skip("set MAXTEXT to the folder src of a checkout of MaxText")
    transformers.utils.is_datasets_available()  # transformers keeps the answer
    pytest.importorskip("flax")
    sys.path.insert(0, source)
    with stand_ins(*MAXTEXT_ABSENT):
        nnx: Any = import_module("flax.nnx")
        partitioning: Any = import_module("flax.linen.partitioning")
        pyconfig: Any = import_module("maxtext.configs.pyconfig")
        models: Any = import_module("maxtext.models.models")
        maxtext_utils: Any = import_module("maxtext.utils.maxtext_utils")
    base = str(Path(source) / "maxtext/configs/base.yml")
    given = [f"{key}={value}" for key, value in MAXTEXT_CONFIG.items()]
    config = pyconfig.initialize(["train", base, *given])
    mesh = maxtext_utils.get_mesh_from_config(config)

    def inside(function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        with jax.set_mesh(mesh), partitioning.axis_rules(config.logical_axis_rules):
            return function(*args, **more)

    rngs = nnx.Rngs(params=0, dropout=1)
    model = inside(models.Transformer, config, mesh, quant=None, model_mode="train", rngs=rngs)
    tokens = jnp.asarray(TOKENS, jnp.int32)

    def logits(model: Any) -> Any:
        return model(
            decoder_input_tokens=tokens,
            decoder_positions=jnp.broadcast_to(jnp.arange(16), (2, 16)),
            decoder_segment_ids=jnp.ones((2, 16), jnp.int32),
            enable_dropout=False,
        )

    def loss_of(model: Any) -> Any:
        found = jax.nn.log_softmax(logits(model)[:, :-1])
        return -jnp.take_along_axis(found, tokens[:, 1:, None], -1).mean()

    def step(model: Any, optimizer: Any) -> Any:
        loss, grads = nnx.value_and_grad(loss_of, argnums=nnx.DiffState(0, nnx.Param))(model)
        optimizer.update(model, grads)
        return loss

    def trained(optimizer: Any) -> list[float]:
        made = nnx.Optimizer(model, optimizer(STEPS), wrt=nnx.Param)
        compiled = nnx.jit(step)
        return [float(inside(compiled, model, made)) for _ in range(3)]

    def llama(name: str) -> str:
        if name in MAXTEXT_NAMES:
            return MAXTEXT_NAMES[name]
        return f"model.layers.*.{MAXTEXT_NAMES[name.removeprefix('decoder/layers/')]}.weight"

    return Built(
        f"MaxText {commit(source)}, Llama",
        nnx.state(model, nnx.Param),
        lambda params: nnx.update(model, params),
        trained,
        1,
        llama,
        (WIDTH / HEADS) ** -0.5,
        lambda: inside(nnx.jit(logits), model),
    )
