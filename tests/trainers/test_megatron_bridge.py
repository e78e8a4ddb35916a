from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.rules.plan import TargetModel
from tests.recipe.formats.conftest import executed
from tests.trainers.compare import compared
from tests.trainers.conftest import VOCAB, Emit
from tests.trainers.megatron_on_cpu import (
    LLAMA,
    SIZES,
    STEPS,
    WARMUP,
    arrived,
    import_megatron,
    one_process,
    parts,
    planned,
    two_steps,
)

import_megatron("transformer_engine")  # which its low-rank layers derive from
pytest.importorskip("megatron.bridge")


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with one_process():
        yield


def provider() -> Any:
    """A Llama of the tests' sizes."""
    from megatron.bridge.models.gpt_provider import GPTModelProvider, local_layer_spec

    return GPTModelProvider(
        **SIZES | LLAMA,
        vocab_size=VOCAB,
        seq_length=16,
        position_embedding_type="rope",
        transformer_layer_spec=local_layer_spec,
    )


def model_config() -> Any:
    """The same Llama by the model configs that newer versions have."""
    module = pytest.importorskip("megatron.bridge.models.gpt.model_config")
    from megatron.bridge.models.gpt.gpt_builder import local_layer_spec
    from megatron.bridge.models.transformer_config import TransformerConfig

    return module.BridgeGPTModelConfig(
        transformer=TransformerConfig(**SIZES | LLAMA),
        vocab_size=VOCAB,
        seq_length=16,
        position_embedding_type="rope",
        transformer_layer_spec=local_layer_spec(TransformerConfig(**SIZES | LLAMA)),
    )


def container(model: Any) -> Any:
    """A ConfigContainer with values that the file is to replace."""
    from megatron.bridge.training import config

    dataset = config.MockGPTDatasetConfig(
        random_seed=1,
        seq_length=16,
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
    )
    return config.ConfigContainer(
        train=config.TrainingConfig(train_iters=STEPS, micro_batch_size=2, global_batch_size=2),
        model=model,
        optimizer=config.OptimizerConfig(lr=1.0, weight_decay=1.0),
        scheduler=config.SchedulerConfig(lr_warmup_fraction=0.5),
        dataset=dataset,
        logger=config.LoggerConfig(),
        tokenizer=config.TokenizerConfig(tokenizer_type="NullTokenizer", vocab_size=VOCAB),
        checkpoint=config.CheckpointConfig(),
    )


def built(cfg: Any) -> Any:
    """The model, as pretrain() builds it; its wrapper for data parallelism wants a GPU."""
    from megatron.core.distributed import DistributedDataParallelConfig
    from megatron.core.process_groups_config import ProcessGroupCollection

    if hasattr(cfg.model, "get_builder_cls"):
        builder = cfg.model.get_builder_cls()(cfg.model)
        groups = ProcessGroupCollection.use_mpu_process_groups()
        (model,) = builder.build_distributed_models(groups, wrap_with_ddp=False)
    else:
        (model,) = cfg.model.provide_distributed_model(
            wrap_with_ddp=False, use_cpu_initialization=True
        )
    model.ddp_config = DistributedDataParallelConfig()
    return model


def made(cfg: Any, model: Any) -> tuple[Any, Any]:
    """Optimizer and scheduler, as pretrain() makes them."""
    from megatron.bridge.training.optim import setup_optimizer

    return setup_optimizer(
        cfg.optimizer,
        cfg.scheduler,
        [model],
        optimizer_config_override_provider=cfg.optimizer_config_override_provider,
    )


@pytest.mark.parametrize("by", [provider, model_config])
def test_the_trainer_has_the_recipes_values(
    fitted: Callable[..., Exponents],
    written: Emit,
    target: Callable[..., TargetModel],
    by: Callable[[], Any],
) -> None:
    import megatron.bridge
    import megatron.core

    found = fitted()
    emitted = executed(written(found, "megatron-bridge"))
    cfg = container(by())
    emitted["configure"](cfg)
    cfg.validate()
    model = built(cfg)
    init = parts(model)
    layers = model.decoder.layers
    assert {layer.self_attention.core_attention.softmax_scale for layer in layers} == {1 / 8}
    assert cfg.optimizer.clip_grad == 1.0
    cfg.optimizer.clip_grad = 0.0
    optimizer, scheduler = made(cfg, model)
    said = two_steps(model, optimizer, scheduler)
    scheduler.step(WARMUP * cfg.train.global_batch_size - scheduler.num_steps)
    name = (
        f"megatron-bridge {megatron.bridge.__version__} with core {megatron.core.__version__}, "
        f"{type(cfg.model).__name__} with local layers"
    )
    row = compared(name, arrived(model, optimizer, init), planned(found, target(found)), said)
    assert (row.lr, row.weight_decay, row.eps, row.betas) == pytest.approx((0,) * 4, abs=1e-12)


def test_what_would_train_otherwise_is_refused(
    fitted: Callable[..., Exponents], written: Emit
) -> None:
    emitted = executed(written(fitted(), "megatron-bridge"))
    cfg = container(provider())
    emitted["configure"](cfg)
    cfg.validate()
    cfg.optimizer.lr = 1.0
    with pytest.raises(ValueError, match=r"optimizer.lr 1.0 is not the recipe's"):
        made(cfg, None)
    cfg.model.share_embeddings_and_output_weights = True
    with pytest.raises(ValueError, match=r"one tied weight.*set share_embeddings_and_output"):
        built(cfg)
    other = container(provider())
    other.model.kv_channels = 16
    with pytest.raises(ValueError, match="for heads of 8, these have 16"):
        emitted["configure"](other)
