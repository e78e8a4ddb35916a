"""Initial weights by a recipe: of matrices, gains and biases, on one rank and on several."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.loaded import load_recipe
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.made import NAMES, WIDTH, Net, loaded, with_vectors

SAID = {"value": 0.0, "status": "assumed", "source": "here"}
BASE = {"base": {"init_std": 0.0}}


def with_init(vector: dict[str, Any], **stds: float) -> Callable[[dict[str, Any]], None]:
    """Patterns with init stds for every role of `Net`, 0.5 unless given."""

    def edit(document: dict[str, Any]) -> None:
        with_vectors(document)
        names = {"embedding": "wte.weight", "hidden": r"layers.*", "readout": "head.weight"}
        for role, pattern in names.items():
            said = SAID | {"value": stds.get(role, 0.5)}
            document["roles"][role]["parameters"] = [{"pattern": pattern, "init_std": said}]
        written = {"pattern": "norm.*", "init_std": SAID, **vector}
        document["roles"]["vector"]["parameters"] = [written]

    return edit


def test_init_draws_what_the_recipe_says(sweep: Sweep, unfolded: Recipe) -> None:
    recipe, model = loaded(unfolded), sweep.model(WIDTH)
    in_model: Any = {"attention_scale": "in_model"}
    done = recipe.init_(model, torch.Generator().manual_seed(0), **in_model)
    assert done.drawn == tuple(name for name, _ in model.named_parameters())
    assert done.left == ()
    for target in recipe.plan(model):
        parameter = model.get_parameter(target.name)
        assert parameter.requires_grad
        assert parameter.is_leaf
        assert float(parameter.detach().std()) == pytest.approx(target.init_std, rel=0.1)
    again = sweep.model(WIDTH)
    recipe.init_(again, torch.Generator().manual_seed(0), **in_model)
    drawn, before = (m.get_parameter("readout.weight") for m in (again, model))
    assert torch.equal(drawn, before)


def test_init_leaves_what_the_recipe_does_not_say(folded: Recipe) -> None:
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    done = loaded(folded, NAMES).init_(model)
    assert (done.drawn, len(done.left)) == ((), 4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class OwnNorm(nn.Module):
    """A norm that nobody knows: its weight may count from 0 or from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((WIDTH,), 3.0))


def test_a_mean_of_0_in_an_old_recipe_is_a_bias_or_an_unknown_gain(folded: Recipe) -> None:
    """Recipes of older versions hold no means; the module tells what is what, or nobody."""
    recipe = loaded(folded, edit=with_init({}, readout=0.0))
    model: Any = Net()
    model.norm = nn.LayerNorm(WIDTH)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    done = recipe.init_(model)
    assert done.left == ()
    assert torch.equal(model.norm.weight, torch.ones(WIDTH))
    assert torch.equal(model.norm.bias, torch.zeros(WIDTH))
    assert not model.head.weight.any()
    assert float(model.wte.weight.detach().std()) == pytest.approx(0.5, rel=0.1)
    model.norm = nn.Sequential(OwnNorm(), nn.Linear(WIDTH, WIDTH))
    model.norm[1].weight.requires_grad_(False)
    model.norm[1].bias.data.fill_(7.0)
    done = recipe.init_(model)
    assert done.left == ("norm.0.weight",)
    assert torch.equal(model.norm[0].weight, torch.full((WIDTH,), 3.0))
    assert torch.equal(model.norm[1].bias, torch.zeros(WIDTH))


def test_a_mean_of_0_in_a_recipe_with_means_is_one(folded: Recipe) -> None:
    model: Any = Net()
    model.norm = OwnNorm()
    done = loaded(folded, edit=with_init(BASE)).init_(model)
    assert done.left == ()
    assert torch.equal(model.norm.weight, torch.zeros(WIDTH)), "as Gemma's, which counts from 1"


def test_gains_of_ones_own_patterns_are_those_of_the_module(folded: Recipe) -> None:
    patterns: Any = {**NAMES, "vector": "norm.*|head.bias"}
    model: Any = Net()
    model.norm, model.head.bias = nn.LayerNorm(WIDTH), nn.Parameter(torch.full((11,), 7.0))
    nn.init.constant_(model.norm.weight, torch.nan)
    done = loaded(folded, patterns, with_vectors).init_(model)
    assert done.drawn == ("norm.weight", "norm.bias")
    assert torch.equal(model.norm.weight, torch.ones(WIDTH))
    assert "head.bias" in done.left, "a Linear's bias need not start at 0"


def test_a_model_from_the_meta_device(folded: Recipe) -> None:
    recipe = loaded(folded, edit=with_init({"init_mean": 1.0}))
    with torch.device("meta"):
        model = Net(gains=True)
    with pytest.raises(InputError, match=r"wte\.weight: is on the meta device, which holds no val"):
        recipe.init_(model)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    assert recipe.init_(model).left == ()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert torch.equal(model.norm.weight, torch.ones(WIDTH))


def test_a_rank_that_does_not_hold_a_parameter_is_refused(folded: Recipe) -> None:
    recipe = loaded(folded, edit=with_init({"init_mean": 1.0}))
    model: Any = Net(gains=True)
    model.wte.weight.data = torch.empty(0)
    with pytest.raises(InputError, match=r"wte\.weight: is empty on this rank, as under DeepSpeed"):
        recipe.init_(model)
    for mark in ({"tensor_model_parallel": True}, {"allreduce": False}):
        model = Net(gains=True)
        vars(model.head.weight).update(mark)
        before = model.wte.weight.clone()
        with pytest.raises(InputError, match=r"head\.weight: is one rank's part of a tensor- or e"):
            recipe.init_(model)
        assert torch.equal(model.wte.weight, before), "refused, not begun"


def test_init_draws_around_the_written_mean(folded: Recipe) -> None:
    def gains(std: float) -> Callable[[dict[str, Any]], None]:
        def edit(document: dict[str, Any]) -> None:
            with_vectors(document)
            init = {"value": std, "status": "assumed", "source": "here"}
            written = {"pattern": "norm.weight", "init_std": init, "init_mean": 1.0}
            document["roles"]["vector"]["parameters"] = [written]
            names = ("embedding", "wte.weight"), ("hidden", r"layers.*"), ("readout", "head.weight")
            for role, pattern in names:
                written = {"pattern": pattern, "init_std": init | {"value": 0.5}}
                document["roles"][role]["parameters"] = [written]

        return edit

    model = Net(gains=True)
    with torch.no_grad():
        model.norm.weight.fill_(torch.nan)
    recipe = loaded(folded, edit=gains(0.02))
    recipe.init_(model, torch.Generator().manual_seed(0))
    gain = model.norm.weight.detach()
    assert float(gain.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(gain.std()) == pytest.approx(0.02, rel=0.3)
    (planned,) = (p for p in recipe.plan(model) if p.role == "vector")
    assert (planned.init_mean, planned.init_std) == (1.0, 0.02)

    done = loaded(folded, edit=gains(0.0)).init_(model)
    assert "norm.weight" in done.drawn
    assert torch.equal(model.norm.weight, torch.ones(WIDTH)), "a written mean is set"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port


def on_a_rank(rank: int, port: int, path: str) -> None:
    """Each way to spread a model over two ranks, whose seeds differ."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://localhost:{port}", rank=rank, world_size=2)
    recipe = load_recipe(path)

    def drawn(model: Any, seed: int = rank) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        done = recipe.init_(model)
        assert len(done.drawn) == 5
        values = {n.removeprefix("module."): p.detach() for n, p in model.named_parameters()}
        return {n: v.full_tensor() if isinstance(v, DTensor) else v for n, v in values.items()}

    torch.manual_seed(0)
    alone = Net(gains=True)
    expected = {name: value.clone() for name, value in drawn(alone, seed=0).items()}
    mesh = init_device_mesh("cpu", (2,))
    for wrap in (
        lambda model: model,
        DistributedDataParallel,
        lambda model: fully_shard(model, mesh=mesh),
    ):
        found = drawn(wrap(Net(gains=True)))
        for name, value in expected.items():
            assert torch.equal(found[name], value), (name, "differs from what the first rank drew")
    parts: Any = fully_shard(Net(gains=True), mesh=mesh)
    drawn(parts, seed=0)
    halves: list[Any] = [None, None]
    dist.all_gather_object(halves, parts.layers[0].weight.to_local())
    assert not torch.equal(*halves), "equal seeds must not make equal parts"
    assert torch.equal(torch.cat(halves), expected["layers.0.weight"])
    state: list[Any] = [None, None]
    dist.all_gather_object(state, torch.get_rng_state())
    assert torch.equal(*state), "ranks with equal seeds stay in step"
    with pytest.raises(InputError, match="the ranks hold different parameters"):
        recipe.init_(Net(depth=1 + rank, gains=True))
    dist.destroy_process_group()


def test_one_rank_draws_as_without_torch_distributed(folded: Recipe) -> None:
    recipe = loaded(folded, edit=with_init({"init_mean": 1.0}))
    plain, parts = Net(gains=True), Net(gains=True)
    recipe.init_(plain, torch.Generator().manual_seed(0))
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        fully_shard(parts, mesh=init_device_mesh("cpu", (1,)))
        recipe.init_(parts, torch.Generator().manual_seed(0))
        for name, parameter in parts.named_parameters():
            assert isinstance(parameter, DTensor)
            assert torch.equal(parameter.full_tensor(), plain.get_parameter(name))
        with pytest.warns(UserWarning, match="NO_SHARD"):
            flat = FullyShardedDataParallel(plain, device_id=torch.device("cpu"))
        with pytest.raises(InputError, match="is wrapped in FullyShardedDataParallel, under which"):
            recipe.init_(flat)
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.processes
def test_all_ranks_have_what_the_first_drew(folded: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    edited = loaded(folded, edit=with_init({"init_mean": 1.0})).recipe
    path.write_text(dump(edited))
    spawn(on_a_rank, (free_port(), str(path)), nprocs=2)  # type: ignore[no-untyped-call]
