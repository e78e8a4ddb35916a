"""Megatron Core in one process on the CPU, with stand-ins for what only GPUs have.

Megatron Core asks for CUDA in three places that a small GPTModel meets: tensors that it makes on
device "cuda", `torch.cuda.current_device()`, and the random states of CUDA that it tracks. Clipping
the gradient asserts CUDA tensors, so that it is off.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import typing
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
import typing_extensions
from torch._C._distributed_c10d import HashStore
from torch.overrides import TorchFunctionMode

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.loaded import loaded
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.rules.plan import PlannedParameter, TargetModel
from tests.trainers.compare import Arrived
from tests.trainers.conftest import DEPTH, HEADS, VOCAB, WIDTH, llama_config

INNER, HEAD_SIZE = 4 * WIDTH, WIDTH // HEADS
STEPS = 10
WARMUP = 2


class Absent(MetaPathFinder, Loader):
    """Imports modules of GPU-only packages as mocks."""

    def __init__(self, *packages: str) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.split(".")[0] in self.packages:
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        stub = MagicMock(name=spec.name, __path__=[], __name__=spec.name, __version__="0")
        stub.__spec__ = spec
        return typing.cast(ModuleType, stub)

    def exec_module(self, module: ModuleType) -> None: ...


def import_megatron(*absent: str) -> None:
    """Import Megatron Core, then stand in for packages that only GPUs run, if they are absent.

    Args:
        absent: packages that other modules import later; Megatron Core itself, which looks for
            them and does without, is not to find them.
    """
    if importlib.util.find_spec("megatron") is None:
        pytest.skip("no megatron-core", allow_module_level=True)
    importlib.import_module("torch._inductor.compile_fx")  # knows triton only where it is real
    if not hasattr(typing, "override"):  # newer Megatron is for Python 3.12
        typing.override = typing_extensions.override  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if importlib.util.find_spec("triton") is None:
            sys.meta_path.append(Absent("triton"))
        for name in (
            "core.extensions.transformer_engine",
            "core.models.gpt.gpt_layer_specs",
            "core.models.gpt.gpt_model",
            "core.optimizer",
            "core.transformer.transformer_config",
        ):
            importlib.import_module(f"megatron.{name}")
        missing = [name for name in absent if importlib.util.find_spec(name) is None]
        sys.meta_path.append(Absent(*missing))


class OnCpu(TorchFunctionMode):
    """Makes tensors on the CPU that code makes on device "cuda"."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if str(given.get("device", "")).startswith("cuda"):
            given["device"] = "cpu"
        return func(*args, **given)


@contextlib.contextmanager
def one_process() -> Iterator[None]:
    """Process groups of one process, and the CPU in place of CUDA."""
    from megatron.core import parallel_state, tensor_parallel

    with pytest.MonkeyPatch.context() as patched, OnCpu(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patched.setattr(torch.cuda, "current_device", lambda: "cpu")
        tracker = tensor_parallel.random.CudaRNGStatesTracker
        patched.setattr(tracker, "fork", lambda *_: contextlib.nullcontext())
        torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
        parallel_state.initialize_model_parallel()
        try:
            yield
        finally:
            parallel_state.destroy_model_parallel()
            torch.distributed.destroy_process_group()


SIZES = {
    "num_layers": DEPTH,
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "ffn_hidden_size": INNER,
}
LLAMA = {
    "gated_linear_unit": True,
    "activation_func": torch.nn.functional.silu,
    "normalization": "RMSNorm",
    "add_bias_linear": False,
    "attention_dropout": 0.0,
    "hidden_dropout": 0.0,
    "use_cpu_initialization": True,
    # kernels of CUDA
    "bias_dropout_fusion": False,
    "gradient_accumulation_fusion": False,
}


def gpt(config: Any, tied: bool = False, positions: str = "rope") -> Any:
    """A GPTModel of the tests' sizes."""
    from megatron.core.distributed import DistributedDataParallelConfig
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.models.gpt.gpt_model import GPTModel

    model = GPTModel(
        config,
        get_gpt_layer_local_spec(normalization="RMSNorm"),
        vocab_size=VOCAB,
        max_sequence_length=128,
        share_embeddings_and_output_weights=tied,
        position_embedding_type=positions,
    )
    model.ddp_config = (
        DistributedDataParallelConfig()
    )  # the optimizer reads it of the wrapped model
    return model


def two_steps(model: Any, optimizer: Any, scheduler: Any) -> str:
    """Train on one batch; every parameter must move."""
    tokens = torch.arange(32).view(2, 16)
    positions = torch.arange(16).expand(2, -1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    scheduler.step(1)  # the first rate of a warm-up is 0
    for _ in range(2):
        model.zero_grad()
        model(tokens, positions, None, labels=tokens).mean().backward()
        for parameter in model.parameters():
            parameter.main_grad = parameter.grad  # as Megatron's data parallelism leaves it
        done, _, _ = optimizer.step()
        assert done
        scheduler.step(1)
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert not still
    return "every parameter moved"


Stds = dict[str, tuple[float, float, int]]


def parts(model: Any) -> dict[str, tuple[str, torch.Tensor]]:
    """Megatron's name and the values of every parameter of Hugging Face's Llama."""
    found: dict[str, tuple[str, torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        *path, last = name.removeprefix("decoder.").removesuffix(".weight").split(".")
        block = f"model.{'.'.join(path[:2])}."
        if last == "linear_qkv":
            by_head = values.view(HEADS, 3, HEAD_SIZE, WIDTH)
            rows = {f"{block}self_attn.{part}_proj": by_head[:, n] for n, part in enumerate("qkv")}
        elif last == "linear_fc1":
            gate, up = values.chunk(2)
            rows = {f"{block}mlp.gate_proj": gate, f"{block}mlp.up_proj": up}
        else:
            alone = {
                "word_embeddings": "model.embed_tokens",
                "output_layer": "lm_head",
                "final_layernorm": "model.norm",
                "input_layernorm": f"{block}input_layernorm",
                "pre_mlp_layernorm": f"{block}post_attention_layernorm",
                "linear_proj": f"{block}self_attn.o_proj",
                "linear_fc2": f"{block}mlp.down_proj",
            }
            rows = {alone[last]: values}
        found |= {f"{part}.weight": (name, value.clone()) for part, value in rows.items()}
    return found


def arrived(
    model: Any, optimizer: Any, init: Mapping[str, tuple[str, torch.Tensor]]
) -> dict[str, Arrived]:
    """Values of every parameter at the peak of the schedule.

    Args:
        init: as `parts` of the model before its first step.
    """
    parameters = dict(model.named_parameters())
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    found = {}
    for part, (name, values) in init.items():
        group = groups[id(parameters[name])]
        found[part] = Arrived(
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            betas=group["betas"],
            mean=values.mean().item(),
            std=values.std().item(),
            count=values.numel(),
        )
    return found


def planned(found: Exponents, model: TargetModel) -> dict[str, PlannedParameter]:
    """Values of every parameter, where the attention scale stays in the forward pass."""
    import transformers

    apart = replace(model, queries=frozenset())
    recipe = build_recipe(found, Target(WIDTH, {}, True, model=apart))
    config = transformers.AutoConfig.for_model(**llama_config())
    module = transformers.AutoModelForCausalLM.from_config(config)
    return {p.name: p for p in loaded(recipe, "recipe").plan(module)}
