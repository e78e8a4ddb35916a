from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import yaml

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.optim.muon import MuonSpec, orthogonalised
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.rules.plan import TargetModel, Values
from mutransfer_cli.strict import validated
from tests.recipe.formats.conftest import executed
from tests.trainers.compare import compared
from tests.trainers.conftest import VOCAB, WIDTH, Emit
from tests.trainers.megatron_on_cpu import (
    LLAMA,
    SIZES,
    STEPS,
    WARMUP,
    arrived,
    gpt,
    import_megatron,
    one_process,
    parts,
    planned,
    two_steps,
)

pytest.importorskip("transformers")
import_megatron()


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with one_process():
        yield


def arguments(flags: list[str]) -> argparse.Namespace:
    """The emitted flags as Megatron's own parser types them."""
    parser = argparse.ArgumentParser()
    for flag in flags:
        if flag.startswith("--"):
            following = flags[flags.index(flag) + 1 :][:1]
            if not following or following[0].startswith("--"):
                dest = {"--muon-no-split-qkv": "muon_split_qkv"}.get(flag)
                action = "store_false" if dest else "store_true"
                parser.add_argument(flag, action=action, dest=dest)
            else:
                kind = type(yaml.safe_load(following[0]))
                parser.add_argument(flag, type=kind)
    others = argparse.Namespace(swiglu=False, position_embedding_type="rope")
    return parser.parse_args(flags, others)


def made(emitted: dict[str, Any], model: Any) -> tuple[Any, Any]:
    """Optimizer and scheduler, as pretrain() makes them of the arguments."""
    from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

    args = arguments(emitted["FLAGS"])
    emitted["check"](args)
    known = {key: value for key, value in vars(args).items() if key != "clip_grad"}
    fields = {k: v for k, v in known.items() if k in OptimizerConfig.__dataclass_fields__}
    config = OptimizerConfig(**fields, clip_grad=0.0)
    optimizer = get_megatron_optimizer(
        config, [model], config_overrides=emitted["overrides"](), use_gloo_process_groups=False
    )
    decay = {"start_wd": args.weight_decay, "end_wd": args.weight_decay, "wd_incr_steps": STEPS}
    scheduler = OptimizerParamScheduler(
        optimizer,
        init_lr=args.lr_warmup_init,
        max_lr=args.lr,
        min_lr=args.min_lr,
        lr_warmup_steps=int(args.lr_warmup_iters),
        lr_decay_steps=STEPS,
        lr_decay_style=args.lr_decay_style,
        wd_incr_style="constant",
        **decay,
    )
    return optimizer, scheduler


def built(emitted: dict[str, Any], gated: bool = True, **changes: Any) -> Any:
    """A model by the steps that the file names."""
    from megatron.core.transformer.transformer_config import TransformerConfig

    config = TransformerConfig(**SIZES, **LLAMA | {"gated_linear_unit": gated})
    emitted["set_attention_scale"](config)
    model = gpt(config, **changes)
    emitted["init_"](model)
    return model


@pytest.mark.parametrize("by_config", [True, False])
def test_the_trainer_has_the_recipes_values(
    fitted: Callable[..., Exponents],
    written: Emit,
    target: Callable[..., TargetModel],
    by_config: bool,
) -> None:
    import megatron.core

    found = fitted()
    emitted = executed(written(found, "megatron", by_config))
    model = built(emitted)
    init = parts(model)
    scales = {layer.self_attention.core_attention.softmax_scale for layer in model.decoder.layers}
    assert scales == {emitted["ATTENTION_SCALE"]} == {1 / 8}
    optimizer, scheduler = made(emitted, model)
    said = two_steps(model, optimizer, scheduler)
    assert scheduler.num_steps == WARMUP + 1
    scheduler.step(WARMUP - scheduler.num_steps)  # back to the peak
    how = "--model" if by_config else "--width"
    name = f"megatron-core {megatron.core.__version__}, GPTModel with local layers ({how})"
    row = compared(name, arrived(model, optimizer, init), planned(found, target(found)), said)
    assert (row.lr, row.weight_decay, row.eps, row.betas) == pytest.approx((0,) * 4, abs=1e-12)


def test_the_training_script_gets_flags_and_overrides(
    fitted: Callable[..., Exponents],
    written: Emit,
    target: Callable[..., TargetModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Needs a checkout of Megatron-LM on the path: the package lacks its training scripts."""
    training = pytest.importorskip("megatron.training.training")
    import megatron.core
    from megatron.core.optimizer import get_megatron_optimizer
    from megatron.training.arguments import parse_args, validate_args
    from megatron.training.global_vars import set_args

    found = fitted()
    emitted = executed(written(found, "megatron"))
    sizes = [
        *("--num-layers", "2", "--hidden-size", "256", "--num-attention-heads", "32"),
        *("--ffn-hidden-size", "1024", "--swiglu", "--disable-bias-linear"),
        *("--normalization", "RMSNorm", "--position-embedding-type", "rope"),
        *(
            "--vocab-size",
            str(VOCAB),
            "--seq-length",
            "16",
            "--max-position-embeddings",
            "128",
            "--micro-batch-size",
            "2",
        ),
        *("--train-iters", str(STEPS), "--use-cpu-initialization", "--no-bias-swiglu-fusion"),
        *(
            "--transformer-impl",
            "local",
            "--no-gradient-accumulation-fusion",
            "--no-persist-layer-norm",
        ),
        *("--no-masked-softmax-fusion", "--no-bias-dropout-fusion", "--no-rope-fusion"),
    ]
    monkeypatch.setattr("sys.argv", ["pretrain_gpt.py", *sizes])
    sys.argv += emitted["FLAGS"]
    args = parse_args()
    validate_args(args)
    set_args(args)
    monkeypatch.setattr(
        training, "get_megatron_optimizer_config", training.get_megatron_optimizer_config
    )
    emitted["install"]()
    config, overrides = training.get_megatron_optimizer_config(args)
    model = by_script(emitted, args)
    init = parts(model)
    config.clip_grad = 0.0
    optimizer = get_megatron_optimizer(
        config, [model], config_overrides=overrides, use_gloo_process_groups=False
    )
    scheduler = training.get_optimizer_param_scheduler(optimizer)
    scheduler.step(WARMUP * args.global_batch_size)
    name = f"Megatron-LM {megatron.core.__version__}, by its command line"
    row = compared(name, arrived(model, optimizer, init), planned(found, target(found)), "no step")
    assert (row.lr, row.weight_decay, row.eps, row.betas) == pytest.approx((0,) * 4, abs=1e-12)


def by_script(emitted: dict[str, Any], args: argparse.Namespace) -> Any:
    """The model as pretrain_gpt.py builds it, by a model config from 0.19 on."""
    from megatron.core.distributed import DistributedDataParallelConfig
    from megatron.core.process_groups_config import ProcessGroupCollection
    from megatron.training import argument_utils
    from megatron.training.arguments import core_transformer_config_from_args

    if not hasattr(argument_utils, "gpt_config_from_args"):
        transformer = core_transformer_config_from_args(args)
        emitted["set_attention_scale"](transformer)
        model = gpt(transformer)
        emitted["init_"](model)
        return model
    config = argument_utils.gpt_config_from_args(args)
    emitted["set_attention_scale"](config.transformer)
    config.pre_wrap_hooks.insert(0, emitted["init_all_"])
    groups = ProcessGroupCollection.use_mpu_process_groups()
    builder = config.get_builder_cls()(config)
    (model,) = builder.build_distributed_models(groups, wrap_with_ddp=False)
    model.ddp_config = DistributedDataParallelConfig()
    return model


def test_the_rate_that_megatron_logs_is_the_hidden_one(
    fitted: Callable[..., Exponents], written: Emit
) -> None:
    from megatron.core.optimizer_param_scheduler import get_canonical_lr_for_logging

    emitted = executed(written(fitted(), "megatron"))
    optimizer, scheduler = made(emitted, built(emitted))
    scheduler.step(WARMUP)
    assert get_canonical_lr_for_logging(optimizer.param_groups) == emitted["LR"]


@pytest.mark.parametrize("told_apart", [True, False])
def test_a_checkpoint_keeps_each_groups_values(
    fitted: Callable[..., Exponents], written: Emit, told_apart: bool
) -> None:
    emitted = executed(written(fitted(), "megatron"))
    if not told_apart:
        for values in emitted["GROUPS"].values():
            del values["lr_mult"]
    optimizer, _ = made(emitted, built(emitted))
    (inner,) = optimizer.chained_optimizers
    groups = inner.param_groups
    saved = [{**group, "params": n} for n, group in enumerate(groups)]
    matched = inner._filter_and_reorder_param_groups(groups, saved[::-1])
    kept = [found["eps"] for found in matched] == [group["eps"] for group in groups]
    assert kept == told_apart


def test_learned_positions_are_embeddings(fitted: Callable[..., Exponents], written: Emit) -> None:
    emitted = executed(written(fitted(), "megatron"))
    model = built(emitted, positions="learned_absolute")
    positions = model.embedding.position_embeddings.weight
    assert positions.std().item() == pytest.approx(emitted["INIT"]["embedding"][1], rel=0.05)
    optimizer, _ = made(emitted, model)
    (rate,) = {
        group["max_lr"]
        for group in optimizer.param_groups
        if any(parameter is positions for parameter in group["params"])
    }
    assert rate == emitted["GROUPS"]["embedding"]["max_lr"] != emitted["LR"]


def test_queries_that_start_at_zero_are_rows_of_the_fused_matrix(
    fitted: Callable[..., Exponents], written: Emit
) -> None:
    emitted = executed(written(fitted(model={"query_init": "zero"}), "megatron"))
    found = parts(built(emitted))
    assert not found["model.layers.0.self_attn.q_proj.weight"][1].any()
    for part in "kv":
        _, values = found[f"model.layers.1.self_attn.{part}_proj.weight"]
        assert values.std().item() == pytest.approx(1 / 16, rel=0.05)


def test_what_would_train_otherwise_is_refused(
    fitted: Callable[..., Exponents], written: Emit
) -> None:
    from megatron.core.transformer.transformer_config import TransformerConfig

    emitted = executed(written(fitted(), "megatron"))
    with pytest.raises(ValueError, match=r"one tied weight.*start with --untie-embeddings"):
        built(emitted, tied=True)
    args = arguments(emitted["FLAGS"])
    args.untie_embeddings_and_output_weights = False
    with pytest.raises(ValueError, match=r"one tied weight.*add --untie-embeddings"):
        emitted["check"](args)
    with pytest.raises(ValueError, match=r"call set_attention_scale\(config\) before"):
        emitted["init_"](gpt(TransformerConfig(**SIZES, **LLAMA)))
    with pytest.raises(ValueError, match="for heads of 8, these have 16: transfer"):
        emitted["set_attention_scale"](TransformerConfig(**SIZES, **LLAMA, kv_channels=16))
    with pytest.raises(ValueError, match=r"self_attention.q_layernorm.weight: no model with it"):
        emitted["role_of"]("module.decoder.layers.0.self_attention.q_layernorm.weight")


def test_muon_updates_as_the_sweeps_own(fitted: Callable[..., Exponents], written: Emit) -> None:
    """Needs emerging-optimizers and Megatron Core 0.18."""
    pytest.importorskip("emerging_optimizers")
    module = pytest.importorskip("megatron.core.optimizer.emerging_optimizers")
    found = fitted(optimizer={"name": "muon"})
    recipe = build_recipe(found, Target(WIDTH, {}, True))
    emitted = executed(written(found, "megatron", by_config=False))
    gated = arguments(emitted["FLAGS"])
    gated.swiglu = True
    with pytest.raises(ValueError, match="Muon would orthogonalise gate and up as one matrix"):
        emitted["check"](gated)
    learned = arguments(emitted["FLAGS"])
    learned.position_embedding_type = "learned_absolute"
    with pytest.raises(ValueError, match="Muon would orthogonalise the position embeddings"):
        emitted["check"](learned)
    model = built(emitted, gated=False)
    optimizer, scheduler = made(emitted, model)
    scheduler.step(WARMUP)
    muon = next(
        o.optimizer
        for o in optimizer.chained_optimizers
        if type(o.optimizer) is module.TensorParallelMuon
    )
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    by_muon = {id(p) for group in muon.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        role, group = emitted["role_of"](name), groups[id(parameter)]
        assert (id(parameter) in by_muon) == (role == "hidden")
        if role in recipe.roles:
            wanted = recipe.roles[role].values()
            assert group["lr"] == pytest.approx(wanted.lr, rel=1e-12)
            assert group["weight_decay"] == pytest.approx(wanted.weight_decay, rel=1e-12)
            assert role == "hidden" or group["eps"] == pytest.approx(wanted.eps, rel=1e-12)
    steps_as_the_sweep(emitted, model, optimizer, recipe.roles["hidden"].values())


def steps_as_the_sweep(emitted: dict[str, Any], model: Any, optimizer: Any, hidden: Values) -> None:
    """Two steps of the optimizer move each hidden matrix as the sweep's own Muon does."""
    spec = validated(MuonSpec, {"name": "muon"}, "optimizer")
    momenta: dict[str, torch.Tensor] = {}
    for _ in range(2):
        gradients, before = {}, {}
        for name, parameter in model.named_parameters():
            before[name] = parameter.detach().clone()
            gradients[name] = parameter.main_grad = torch.randn_like(parameter)
        optimizer.step()
        for name, parameter in model.named_parameters():
            if emitted["role_of"](name) == "hidden":
                gradient = gradients[name]
                momentum = momenta.setdefault(name, torch.zeros_like(gradient))
                momentum.lerp_(gradient, 1 - spec.momentum)
                nesterov = gradient.lerp(momentum, spec.momentum)
                direction = spec.adjustment(gradient.shape) * orthogonalised(nesterov[None])[0]
                change = -hidden.lr * (direction + (hidden.weight_decay or 0.0) * before[name])
                error = (parameter - before[name] - change).norm() / change.norm()
                assert error <= 0.03, name  # its products are in bfloat16
