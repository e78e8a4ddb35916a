"""The emitted file in the real library: a tiny Llama of random weights, some steps on the CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.recipe.formats.conftest import EXPECTED, LR, QUERY, Document, executed, written

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "tie_word_embeddings": False,
}

PLAIN = {"attention_multiplier": 0.3536}  # of Granite, 1/sqrt(8)


def built(model_type: str = "llama", **fields: Any) -> Any:
    config = transformers.AutoConfig.for_model(model_type, **SIZES | fields)
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config)


def kind_of(name: str) -> str:
    if "q_proj" in name:
        return "query"
    if "embed_tokens" in name:
        return "embedding"
    if "lm_head" in name:
        return "readout"
    return "vector" if "norm" in name else "hidden"


def loss_of(model: Any) -> float:
    tokens = torch.randint(64, (8, 32), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return float(model(input_ids=tokens, labels=tokens).loss)


@pytest.fixture
def emitted(document: Document) -> dict[str, Any]:
    return executed(written(document(optimizer={"weight_decay": 0.1}), "transformers"))


def test_every_parameter_has_the_values_of_its_kind(emitted: dict[str, Any]) -> None:
    model = built()
    groups = {id(p): g for g in emitted["param_groups"](model) for p in g["params"]}
    for name, parameter in model.named_parameters():
        group = groups.pop(id(parameter))
        held = (group["lr"], group["weight_decay"])
        assert held == pytest.approx(EXPECTED[kind_of(name)], rel=1e-5), name
    assert not groups


@pytest.mark.parametrize("folded", [False, True])
def test_a_scale_that_is_folded_is_not_said_to_stay(document: Document, folded: bool) -> None:
    text = written(document(), "transformers", folded).replace("\n#  ", "")
    assert "the attention scale 1/d_head over the model's own is moved into the query" in text
    assert "stays in the forward pass" not in text


def test_stds_are_those_of_the_proxies_whatever_the_models_own_are(
    emitted: dict[str, Any],
) -> None:
    model = built(initializer_range=0.9)
    emitted["init_"](model)
    fan_in = {"hidden": 32, "query": 32, "down": 64}
    for name, parameter in model.named_parameters():
        kind = "down" if "down_proj" in name else kind_of(name)
        if kind == "vector":
            assert (parameter == 1).all()
            continue
        # the proxies' std is 1 / sqrt(fan-in); embeddings have 1, the folded readout 1 / 4 / 16
        std = fan_in[kind] ** -0.5 if kind in fan_in else {"embedding": 1, "readout": 1 / 64}[kind]
        std *= QUERY if kind == "query" else 1
        chance = 5 / math.sqrt(2 * parameter.numel())
        assert parameter.std().item() == pytest.approx(std, rel=chance), name


def test_the_attention_scale_is_in_the_weights_and_survives_saving(
    emitted: dict[str, Any], tmp_path: Path
) -> None:
    model = built()
    emitted["init_"](model)
    in_memory = loss_of(model)
    model.save_pretrained(tmp_path)
    reloaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loss_of(reloaded) == pytest.approx(in_memory, abs=1e-6)
    with torch.no_grad():
        for layer in reloaded.model.layers:
            layer.self_attn.q_proj.weight /= QUERY
            layer.self_attn.scaling = 1 / 8
    assert loss_of(reloaded) == pytest.approx(in_memory, abs=1e-5), "q.k / d_head, as in the fit"
    for layer in reloaded.model.layers:
        layer.self_attn.scaling = 8**-0.5
    assert abs(loss_of(reloaded) - in_memory) > 1e-3, "the loss can tell"


def trained(emitted: dict[str, Any], folder: Path, **arguments: Any) -> list[dict[str, float]]:
    """Rates by group before every step of the Trainer and after the last."""
    model = built()
    given = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=6,
        per_device_train_batch_size=2,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **emitted["TRAINING_ARGUMENTS"] | arguments,
    )
    rows = [{"input_ids": list(range(8)), "labels": list(range(8))}] * 12
    made = (emitted["optimizer"](model), None)
    trainer = transformers.Trainer(model, given, train_dataset=rows, optimizers=made)
    seen = []

    class Rates(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_pre_optimizer_step(self, *_: Any, **given: Any) -> None:
            seen.append({g["role"]: g["lr"] for g in trainer.optimizer.param_groups})

    trainer.add_callback(Rates())
    before = model.lm_head.weight.detach().clone()
    trainer.train()
    assert not torch.equal(model.lm_head.weight, before)
    return [*seen, {g["role"]: g["lr"] for g in trainer.optimizer.param_groups}]


def ratios_stay(seen: list[dict[str, float]]) -> bool:
    return all(
        rates[kind] * EXPECTED["hidden"][0]
        == pytest.approx(rates["hidden"] * EXPECTED[kind][0], rel=1e-9)
        for rates in seen
        for kind in rates
    )


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_the_trainer_takes_steps_with_each_groups_rate(
    emitted: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("accelerate")
    seen = trained(emitted, tmp_path)
    assert ratios_stay(seen)
    assert max(rates["embedding"] for rates in seen) == pytest.approx(LR)
    assert seen[-1] == dict.fromkeys(seen[-1], 0.0)


@pytest.mark.parametrize(
    ("schedule", "floor"),
    [
        ("cosine_with_min_lr", {"min_lr": LR / 160}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("cosine_warmup_with_min_lr", {"min_lr": LR / 160}),
        ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1}),
        ("polynomial", {"lr_end": LR / 160}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_floors_of_the_trainers_schedules_keep_the_ratios(
    emitted: dict[str, Any], tmp_path: Path, schedule: str, floor: dict[str, float]
) -> None:
    pytest.importorskip("accelerate")
    seen = trained(emitted, tmp_path, lr_scheduler_type=schedule, lr_scheduler_kwargs=floor)
    assert ratios_stay(seen)
    warmup = emitted["TRAINING_ARGUMENTS"]["warmup_steps"]
    lowest = min(seen[warmup:], key=lambda rates: rates["hidden"])
    assert lowest["hidden"] == pytest.approx(LR / 160, rel=1e-6), "a tenth of its peak, as asked"
    assert lowest["embedding"] == pytest.approx(LR / 10, rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning")
def test_a_floor_that_is_one_rate_for_all_groups_is_named(document: Document) -> None:
    text = written(document(), "transformers")
    optimizer = executed(text)["optimizer"](built())
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.01, patience=0, min_lr=LR / 20
    )
    for _ in range(3):
        schedule.step(1.0)
    rates = {g["role"]: g["lr"] for g in optimizer.param_groups}
    assert rates["embedding"] == rates["hidden"] == LR / 20, "peaks differ by 16"
    said = text.replace("\n#", "")
    assert "the min_lr of reduce_lr_on_plateau or greedy is one rate for all groups" in said


@pytest.mark.parametrize(
    ("model_type", "fields", "said"),
    [
        ("llama", {"mup": True}, "config.mup is True and was False in the fit"),
        ("llama", {"mup_base_width": 16}, "config.mup_base_width is 16 and was None"),
        ("llama", {"use_mup": True}, "config.use_mup is True"),
        ("granite", {}, "config.attention_multiplier is 1.0 and was 0.35"),
        ("granite", {**PLAIN, "embedding_multiplier": 12.0}, "config.embedding_multiplier is 12.0"),
        ("granite", {**PLAIN, "logits_scaling": 8.0}, "config.logits_scaling is 8.0 and was 1.0"),
        ("cohere", {}, "config.logit_scale is 0.0625 and was 1.0"),
        (
            "minicpm3",
            {"scale_emb": 1, "scale_depth": None},
            "dim_model_base is 256 and was 32",
        ),
        (
            "minicpm3",
            {"scale_emb": 1, "dim_model_base": None},
            "scale_depth is 1.4 and was 1.",
        ),
        ("falcon_h1", {"mlp_multipliers": [0.5, 2.0]}, r"config.mlp_multipliers is \[0.5, 2.0\]"),
        ("gemma2", {"head_dim": 8}, "config.query_pre_attn_scalar is 256 and was"),
        ("biogpt", {}, "config.scale_embedding is True and was False"),
        ("llama", {"head_dim": 16}, "heads have size 16, and .* attention scale of size 8"),
    ],
)
def test_models_that_scale_themselves_are_refused(
    emitted: dict[str, Any], model_type: str, fields: dict[str, Any], said: str
) -> None:
    with torch.device("meta"):
        model = built(model_type, **fields)
    for function in ("optimizer", "init_"):
        with pytest.raises(ValueError, match=said):
            emitted[function](torch.nn.ModuleDict({"module": model}))


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("llama", {"mup": False, "mup_base_width": 16}),
        ("granite", PLAIN),
    ],
)
def test_neutral_factors_are_the_plain_model(
    emitted: dict[str, Any], model_type: str, fields: dict[str, Any]
) -> None:
    emitted["init_"](built(model_type, **fields))


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    where = f"file://{tmp_path / 'group'}"
    dist.init_process_group("gloo", init_method=where, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_replicas_are_not_drawn_on_their_own(emitted: dict[str, Any]) -> None:
    replica = torch.nn.parallel.DistributedDataParallel(built())
    with pytest.raises(ValueError, match="replicas would start with different values"):
        emitted["init_"](replica)
    assert len(emitted["optimizer"](replica).param_groups) == 5
