"""The emitted file in torchtitan itself: its Llama 3 flavours, optimizers and schedulers."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.optim import muon
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.formats.torchtitan import MATRICES
from mutransfer_cli.recipe.loaded import loaded
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.rules.plan import PlannedParameter, TargetModel
from mutransfer_cli.rules.schedule import schedule_factors
from tests.recipe.formats.conftest import executed
from tests.trainers.compare import Arrived, Row, compared
from tests.trainers.conftest import llama_config

pytest.importorskip("torchtitan")
transformers = pytest.importorskip("transformers")

# kernels in Triton for mixtures of experts, which torchtitan imports with every model
_KERNELS = ModuleType("torchtitan.distributed.minimal_async_ep.kernels")
_KERNELS.__getattr__ = lambda name: None  # type: ignore[method-assign]
sys.modules[_KERNELS.__name__] = _KERNELS

DistMuon = import_module("torchtitan.distributed.flex_shard.dist_muon").DistMuon
apply_fsdp_to_decoder = import_module("torchtitan.distributed.fsdp").apply_fsdp_to_decoder
FusedQKVLinear = import_module("torchtitan.models.common.attention").FusedQKVLinear
llama3_configs = import_module("torchtitan.models.llama3").llama3_configs
adapter = import_module("torchtitan.models.llama3.state_dict_adapter").Llama3StateDictAdapter
Module: Any = import_module("torchtitan.protocols.module").Module

VERSION = version("torchtitan")
STEPS = 10  # of the fit


class CPUAttention(Module):  # type: ignore[misc]
    """Stands for flex attention, which has no backward pass on a CPU."""

    @dataclasses.dataclass(kw_only=True, slots=True)
    class Config(Module.Config):  # type: ignore[misc]
        pass

    def __init__(self, config: Config) -> None:
        super().__init__()

    def forward(self, q: Any, k: Any, v: Any, *, scale: Any, enable_gqa: bool, **_: Any) -> Any:
        q, k, v = (x.transpose(-3, -2) for x in (q, k, v))
        out = scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scale, enable_gqa=enable_gqa
        )
        return out.transpose(-3, -2)


def flavour(name: str, depth: int | None = None, vocab: int | None = None) -> Any:
    """The config of a stock flavour for a CPU, untied, perhaps with fewer blocks or tokens."""
    config = llama3_configs[name](attn_backend="flex")
    config.enable_weight_tying = False
    config.layers = config.layers[:depth]
    if vocab is not None:
        config.vocab_size = config.tok_embeddings.num_embeddings = vocab
        config.lm_head.out_features = vocab
    for layer in config.layers:
        layer.attention.inner_attention = CPUAttention.Config()
    return config


def sizes(config: Any) -> dict[str, Any]:
    """Changes that make a config.json that of a Llama of the flavour's sizes."""
    attention = config.layers[0].attention
    return {
        "hidden_size": config.dim,
        "vocab_size": config.vocab_size,
        "intermediate_size": config.layers[0].feed_forward.w1.out_features,
        "num_hidden_layers": len(config.layers),
        "num_attention_heads": attention.n_heads,
        "num_key_value_heads": attention.n_kv_heads or attention.n_heads,
    }


Read = Callable[..., TargetModel]
Found = Callable[..., Exponents]
Plan = dict[str, PlannedParameter]


def written(found: Exponents, model: TargetModel) -> dict[str, Any]:
    return executed(emit(found, Target(model.width, {}, None, model=model), "torchtitan").text)


def wanted(found: Exponents, model: TargetModel, config: Any) -> Plan:
    """Values of the recipe under torchtitan's names, by its own table of transformers' names."""
    recipe = build_recipe(found, Target(model.width, {}, True, model=model))
    with torch.device("meta"):
        llama = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(**llama_config() | sizes(config))
        )
    names = adapter(config, None).from_hf_map
    plan = {}
    for planned in loaded(recipe, "recipe").plan(llama):
        parts = planned.name.split(".")
        block = next((part for part in parts if part.isdigit()), "")
        abstract = ".".join("{}" if part.isdigit() else part for part in parts)
        plan[names[abstract].format(block)] = planned
    return plan


def built(config: Any) -> Any:
    """The model as the trainer makes it: on meta, then empty, then initialised."""
    with torch.device("meta"):
        model = config.build()
    model.to_empty(device="cpu")
    model.init_states(buffer_device=torch.device("cpu"))
    return model


def groups_of(optimizers: Any) -> dict[str, dict[str, Any]]:
    """The group of every parameter, by name."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return {name: group for group in groups for name in group["param_names"]}


def arrived(model: Any, optimizers: Any) -> dict[str, Arrived]:
    """Values by the names of checkpoints, in which torchtitan writes wqkv as wq, wk and wv."""
    groups, found = groups_of(optimizers), {}
    for name, tensor in model.state_dict().items():
        group = groups[name if name in groups else re.sub(r"w[qkv]\.weight$", "wqkv.weight", name)]
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        momentum = group.get("momentum")
        found[name] = Arrived(
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            betas=group["betas"] if momentum is None else (momentum, momentum),
            mean=whole.mean().item(),
            std=whole.std().item(),
            count=whole.numel(),
        )
    return found


def trained(config: Any, model: Any, optimizers: Any, schedulers: Any) -> str:
    """Take two steps on random tokens, and say what was seen."""
    tokens = torch.randint(config.vocab_size, (2, 16))
    # main packs sequences, 0.3.0 stacks them
    packed = hasattr(config.layers[0].attention.rope, "max_context_length")
    rates, losses = [], []
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):
        optimizers.zero_grad()
        logits = model(tokens.flatten() if packed else tokens)
        loss = cross_entropy(logits.flatten(0, -2).float(), tokens.flatten())
        torch.autograd.backward(loss)
        rates.append([group["lr"] for o in optimizers for group in o.param_groups])
        optimizers.step()
        schedulers.step()
        losses.append(loss.item())
    assert all((p != before[name]).any() for name, p in model.named_parameters())
    assert losses[1] < losses[0]
    assert rates[0] == pytest.approx([rate / 2 for rate in rates[1]], rel=1e-9), "warm-up"
    return f"loss {losses[0]:.3f}, {losses[1]:.3f}; rates x0.5, x1"


@pytest.mark.parametrize("keep_fused", [False, True])
def test_debugmodel_trains_as_the_recipe_says(
    fitted: Found, target: Read, keep_fused: bool
) -> None:
    found, config = fitted(), flavour("debugmodel")
    read = target(found, **sizes(config))
    plan, emitted = wanted(found, read, config), written(found, read)
    torch.manual_seed(0)
    made = emitted["set_up"](config, keep_fused=keep_fused)
    model = built(config)
    optimizers = made.build(model_parts=[model])
    there = arrived(model, optimizers)
    schedulers = emitted["LR_SCHEDULER"].build(optimizers=optimizers, training_steps=STEPS)
    steps = trained(config, model, optimizers, schedulers)
    how = "unfused by the file"
    if keep_fused:
        how = "fused: query rows with the values of hidden"
        assert isinstance(model.layers["0"].attention.qkv_linear, FusedQKVLinear)
    row = compared(f"torchtitan {VERSION}, debugmodel ({how})", there, plan, steps)
    if not keep_fused:
        assert exact(row)
        return
    # 1/d_head over 1/sqrt(d_head) is 1/4 for heads of 16
    assert (row.lr, row.weight_decay, row.eps, row.betas) == pytest.approx((3, 0.75, 0.75, 0))
    header = emit(found, Target(256, {}, model=read), "torchtitan").text.replace("\n#  ", "")
    said = "learning rate is 4 times, weight decay is 0.25 times, eps is 0.25 times"
    assert f"the init of its query rows is exact, but against the recipe their {said}" in header


def exact(row: Row) -> bool:
    return (row.lr, row.weight_decay, row.eps, row.betas) == pytest.approx((0,) * 4, abs=1e-12)


WIDE = {
    "parameterization": {"base_width": 1024},  # whole heads, of which a kv head has 3 in 3B
    "sweep": {"widths": [1024, 1536, 2048]},
}


@pytest.mark.parametrize("name", ["1B", "3B", "8B"])
def test_flavours(fitted: Found, target: Read, name: str) -> None:
    """All blocks on meta; one, with few tokens, initialised."""
    found, config = fitted(**WIDE), flavour(name, depth=1, vocab=512)
    read = target(found, **sizes(config))
    emitted, plan = written(found, read), wanted(found, read, config)
    made = emitted["set_up"](config)
    model = built(config)
    there = arrived(model, made.build(model_parts=[model]))
    row = compared(f"torchtitan {VERSION}, {name} (one block)", there, plan, "not taken")
    assert exact(row)
    whole = flavour(name)
    made = dataclasses.replace(emitted["set_up"](whole), implementation="for-loop")
    with torch.device("meta"):
        deep = whole.build()
    groups = groups_of(made.build(model_parts=[deep]))
    assert set(groups) == {name for name, _ in deep.named_parameters()}
    for parameter, group in groups.items():
        of_block = re.sub(r"^layers\.\d+\.", "layers.0.", parameter)
        values = [getattr(there[of_block], key) for key in ("lr", "weight_decay", "eps", "betas")]
        assert [group[key] for key in ("lr", "weight_decay", "eps", "betas")] == values
    stock = llama3_configs[name](attn_backend="flex")
    assert stock.enable_weight_tying == (name != "8B")
    if stock.enable_weight_tying:
        with pytest.raises(ValueError, match=r"and lm_head .* train wrongly; set enable_weight_t"):
            emitted["set_up"](stock)


def test_rows_of_a_fused_matrix_are_those_of_the_unfused_one(fitted: Found, target: Read) -> None:
    """Four query heads to a key head: the same values from the same seed, and the same output."""
    found = fitted(**WIDE)
    configs = [flavour("1B", depth=1, vocab=512) for _ in range(2)]
    emitted = written(found, target(found, **sizes(configs[0])))
    states, outputs = [], []
    for config, keep_fused in zip(configs, (False, True), strict=True):
        emitted["set_up"](config, keep_fused=keep_fused)
        torch.manual_seed(0)
        model = built(config)
        states.append(model.state_dict())
        qkv = model.layers["0"].attention.qkv_linear
        x = torch.linspace(-1, 1, 8 * config.dim).view(8, config.dim)
        packed = hasattr(config.layers[0].attention.rope, "max_context_length")
        outputs.append([y.flatten() for y in qkv(x if packed else x.unsqueeze(0))])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert set(states[0]) == set(states[1])
    for unfused, fused in zip(*outputs, strict=True):
        torch.testing.assert_close(unfused, fused)


def test_other_models_are_refused(fitted: Found, target: Read) -> None:
    found, config = fitted(), flavour("debugmodel", depth=1)
    set_up = written(found, target(found, **sizes(config)))["set_up"]
    config.layers[0].attention.qk_norm = config.norm
    with pytest.raises(
        ValueError, match=r"^layers\.0\.attention\.qk_norm\.weight: torchtitan's Lla"
    ):
        set_up(config)
    with pytest.raises(ValueError, match="dim is 2048, but these values are for 256"):
        set_up(flavour("1B", depth=1))
    for_heads_of_8 = executed(emit(found, Target(256, {}), "torchtitan").text)["set_up"]
    with pytest.raises(ValueError, match=r"heads have 16 features, but the attention scale .* 8"):
        for_heads_of_8(flavour("debugmodel"))
    stage = torch.nn.ModuleDict({"norm": torch.nn.RMSNorm(256)})
    with pytest.raises(ValueError, match=r"tok_embeddings.* matched no parameters"):
        set_up(flavour("debugmodel", depth=1)).build(model_parts=[stage])
    joined = llama3_configs["debugmodel"](attn_backend="flex", tp_gemm_backend="dist_gemm")
    with pytest.raises(ValueError, match=r"AllGatherFusedQKVLinear\.Config has no form with"):
        set_up(joined)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "wsd"])
def test_schedules_are_those_of_the_fit(fitted: Found, target: Read, schedule: Any) -> None:
    found, optimizer = fitted(train={"schedule": schedule}), torch.optim.SGD([torch.zeros(1)], lr=1)
    emitted = executed(emit(found, Target(256, {}), "torchtitan").text)
    scheduler = emitted["LR_SCHEDULER"].build(optimizers=[optimizer], training_steps=STEPS)
    factors = []
    for _ in range(STEPS):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert factors == pytest.approx(schedule_factors(STEPS, 2, schedule, 0.2))


MUON = {
    "optimizer": {"name": "muon", "weight_decay": 0.1, "lr_adjustment": "match_rms_adamw"},
    "model": {"attention_scale": "1/sqrt(d_head)", "query_init": "zero"},
}


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Any]:
    """One process with a mesh whose axis has the name of that of torchtitan's FSDP."""
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,), mesh_dim_names=("dp_shard",))
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:DTensor random operators may not have:UserWarning")
def test_dist_muon(fitted: Found, target: Read, mesh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, so that its check for CUDA is left out."""
    monkeypatch.setattr(
        DistMuon, "_validate_parameter_storage", lambda optimizer: torch.device("cpu")
    )
    found, config = fitted(**MUON), flavour("debugmodel", depth=1)
    read = target(found, **sizes(config))
    plan, emitted = wanted(found, read, config), written(found, read)
    made = emitted["set_up"](config)
    with torch.device("meta"):
        model = config.build()
    kinds = {"param_dtype": torch.float32, "reduce_dtype": torch.float32}
    apply_fsdp_to_decoder(model, mesh, pp_enabled=False, **kinds)
    model.to_empty(device="cpu")
    model.init_states(buffer_device=torch.device("cpu"))
    optimizers = made.build(model_parts=[model])
    there = arrived(model, optimizers)
    schedulers = emitted["LR_SCHEDULER"].build(optimizers=optimizers, training_steps=STEPS)
    steps = trained(config, model, optimizers, schedulers)
    for name, planned in plan.items():
        if planned.betas is None:  # of Muon
            plan[name] = dataclasses.replace(planned, eps=muon.EPS, betas=(0.95, 0.95))
    row = compared(f"torchtitan {VERSION}, debugmodel (DistMuon)", there, plan, steps)
    assert exact(row)
    assert steps_as_the_proxies(made.build(model_parts=[model]).optimizers) == len(MATRICES)


def steps_as_the_proxies(optimizers: list[Any]) -> int:
    """Number of matrices whose first step of DistMuon is that of the proxies' Muon."""
    (optimizer,) = (o for o in optimizers if isinstance(o, DistMuon))
    (group,) = optimizer.param_groups
    spec = muon.MuonSpec(name="muon", lr_adjustment="match_rms_adamw")
    before = [p.full_tensor().detach().clone() for p in group["params"]]
    for p in group["params"]:
        p.grad = torch.rand_like(p) - 0.5
    optimizer.step()
    for p, old in zip(group["params"], before, strict=True):
        grad = p.grad.full_tensor()
        nesterov = grad.lerp((1 - spec.momentum) * grad, spec.momentum)
        step = spec.adjustment(old.shape) * muon.orthogonalised(nesterov)
        decayed = (1 - group["lr"] * group["weight_decay"]) * old
        taken = (decayed - p.full_tensor().detach()) / group["lr"]
        assert (taken - step).norm() < 0.02 * step.norm(), "bfloat16 there"
    return len(before)
