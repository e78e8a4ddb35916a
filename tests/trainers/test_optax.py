"""The emitted file with the real Llamas of Marin's Levanter and of MaxText, and with optax.

MaxText's release wants Python 3.12 and a newer JAX: set MAXTEXT to the folder `src` of a checkout.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.rules.plan import PlannedParameter
from mutransfer_cli.rules.schedule import schedule_factors
from tests.recipe.formats.conftest import SCHEDULES, executed, without_protocol
from tests.trainers.compare import Arrived, compared
from tests.trainers.conftest import DEPTH, WIDTH, Emit, Plan, llama_config

pytest.importorskip("optax")
from tests.trainers.jax_llamas import (
    STEPS,
    TOKENS,
    Built,
    Tree,
    jax,
    jnp,
    levanter_llama,
    maxtext_llama,
    transformers,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the trainers' own

RATES = schedule_factors(STEPS, 2, "linear")
Values = dict[str, float]


@pytest.fixture(scope="module")
def levanter() -> Built:
    return levanter_llama()


@pytest.fixture(scope="module")
def maxtext() -> Built:
    return maxtext_llama()


@pytest.fixture(params=["levanter", "maxtext"])
def built(request: pytest.FixtureRequest) -> Built:
    found: Built = request.getfixturevalue(request.param)
    return found


def by_name(emitted: dict[str, Any], tree: Tree) -> dict[str, Any]:
    """Arrays by path; those of Haliax without their axes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=emitted["is_named"])
    return {emitted["name_of"](path): getattr(leaf, "array", leaf) for path, leaf in leaves}


def llama_names(built: Built, name: str) -> list[str]:
    found = built.llama(name)
    return [found.replace("*", str(n)) for n in range(DEPTH)] if "*" in found else [found]


def filled(tree: Tree, value: float) -> Tree:
    return jax.tree_util.tree_map(lambda leaf: jnp.full(leaf.shape, value, "float64"), tree)


def probed(emitted: dict[str, Any], params: Tree) -> dict[str, tuple[float, ...]]:
    """Rate, weight decay, eps and betas by path, from how weights of one value move.

    With gradient g and weight 0 Adam's first update is -lr g / (g + eps).
    """
    transformation = emitted["optimizer"](STEPS)
    update = jax.jit(transformation.update)

    def moved(weight: float, *gradients: float) -> Values:
        there = filled(params, weight)
        state = transformation.init(there)
        for gradient in gradients:
            updates, state = update(filled(params, gradient), state, there)
        found = by_name(emitted, updates)
        assert all(array.min() == array.max() for array in found.values())
        return {name: float(array.ravel()[0]) for name, array in found.items()}

    g, tiny = 1e-4, 1e-9
    one, other, decay = (moved(0, g), moved(0, tiny), moved(1, 0))
    turned, ended = moved(0, g, -g), moved(0, g, 0)
    values: dict[str, tuple[float, ...]] = {}
    for name in one:
        inverse = [-RATES[0] / found[name] for found in (one, other)]  # (1 + eps / g) / lr
        slope = (inverse[1] - inverse[0]) / (1 / tiny - 1 / g)
        lr = 1 / (inverse[0] - slope / g)
        eps, scale = slope * lr, RATES[1] * lr
        ratio = turned[name] / scale * (1 + eps / g)  # (1 - b1) / (1 + b1)
        b1 = (1 - ratio) / (1 + ratio)
        root = -b1 / (1 + b1) * scale / ended[name] - eps / g  # sqrt(b2 / (1 + b2))
        b2 = root**2 / (1 - root**2)
        values[name] = (lr, -decay[name] / RATES[0] / lr, eps, b1, b2)
    return values


def arrived(built: Built, emitted: dict[str, Any], started: Tree) -> dict[str, Arrived]:
    """The values of a Llama that has the usual attention: where the trainer's lacks a factor, its
    query is this factor times that of the Llama."""
    found: dict[str, Arrived] = {}
    with jax.enable_x64(True):
        values = probed(emitted, built.params)
    for path, array in by_name(emitted, started).items():
        names, (lr, decay, eps, *betas) = llama_names(built, path), values[path]
        factor = built.query_factor if "q_proj" in names[0] else 1.0
        parts = np.split(np.asarray(array), len(names), built.layers) if len(names) > 1 else [array]
        for name, part in zip(names, parts, strict=True):
            found[name] = Arrived(
                lr=lr / factor,
                weight_decay=decay * factor,
                eps=eps * factor,
                betas=(betas[0], betas[1]),
                mean=float(part.mean()) / factor,
                std=float(part.std(ddof=1)) / factor,
                count=part.size,
            )
    return found


def test_the_trainer_has_the_recipes_values(
    fitted: Callable[..., Exponents], written: Emit, wanted: Plan, built: Built
) -> None:
    found = fitted(train={"clip": None})
    emitted = executed(written(found, "optax"))
    started = emitted["init_"](jax.random.key(1), built.params)
    built.start(started)
    losses = built.trained(emitted["optimizer"])
    assert losses[2] < losses[0] - 0.1
    steps = f"loss {losses[0]:.3f}, {losses[1]:.3f}, {losses[2]:.3f}"
    name = f"{built.name}, optax {version('optax')}"
    row = compared(name, arrived(built, emitted, started), wanted(found), steps)
    assert row.lr == pytest.approx(0, abs=1e-7), "optax's schedules have 32 bits"
    assert (row.weight_decay, row.eps, row.betas) == pytest.approx((0,) * 3, abs=1e-9)


def test_updates_are_those_of_torch(
    fitted: Callable[..., Exponents], written: Emit, wanted: Plan, built: Built
) -> None:
    """Two steps of AdamW with clipped gradients, parameter by parameter."""
    found = fitted()
    emitted, plan = executed(written(found, "optax")), wanted(found)
    random = np.random.default_rng(0)
    drawn: Callable[[Any], Any] = lambda leaf: jnp.asarray(random.normal(size=leaf.shape))  # noqa: E731
    with jax.enable_x64(True):
        params = jax.tree_util.tree_map(drawn, built.params)
        steps = [jax.tree_util.tree_map(drawn, built.params) for _ in range(2)]
        expected = by_torch(built, plan, *(by_name(emitted, tree) for tree in (params, *steps)))
        transformation = emitted["optimizer"](STEPS)
        state = transformation.init(params)
        for grads in steps:
            updates, state = transformation.update(grads, state, params)
            params = jax.tree_util.tree_map(jnp.add, params, updates)
        for name, array in by_name(emitted, params).items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-6, atol=1e-9, err_msg=name)


def by_torch(
    built: Built,
    plan: Mapping[str, PlannedParameter],
    start: dict[str, Any],
    *steps: dict[str, Any],
) -> dict[str, Any]:
    """The weights after steps of torch.optim.AdamW on the Llama that has the usual attention."""
    factors = {name: built.query_factor if "q_proj" in built.llama(name) else 1.0 for name in start}
    weights = {
        name: torch.nn.Parameter(torch.tensor(np.asarray(array) / factors[name]))
        for name, array in start.items()
    }
    groups = []
    for name, weight in weights.items():
        values = plan[llama_names(built, name)[0]]
        keys = ("lr", "weight_decay", "eps", "betas")
        groups.append({"params": [weight], **{key: getattr(values, key) for key in keys}})
    optimizer = torch.optim.AdamW(groups)
    peaks = [group["lr"] for group in optimizer.param_groups]
    for rate, grads in zip(RATES, steps, strict=False):
        for name, weight in weights.items():
            weight.grad = torch.tensor(np.asarray(grads[name]) * factors[name])
        found = [weight.grad for weight in weights.values() if weight.grad is not None]
        norm = torch.stack([grad.square().sum() for grad in found]).sum().sqrt()
        for grad in found:
            grad /= norm.clamp(min=1.0)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = rate * peak
        optimizer.step()
    return {name: w.detach().numpy() * factors[name] for name, w in weights.items()}


def test_maxtexts_attention_has_no_scale(
    fitted: Callable[..., Exponents], written: Emit, maxtext: Built
) -> None:
    """Logits are those of a transformers Llama whose queries are sqrt(head size) times as large."""
    emitted = executed(written(fitted(), "optax"))
    started = emitted["init_"](jax.random.key(1), maxtext.params)
    maxtext.start(started)
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**llama_config())
    )
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for path, array in by_name(emitted, started).items():
            names = llama_names(maxtext, path)
            for n, name in enumerate(names):
                part = np.asarray(array if len(names) == 1 else array[:, n])
                rows, columns = (*weights[name].shape, 1)[:2]
                part = part if "embed" in name else part.reshape(columns, rows).T
                factor = maxtext.query_factor if "q_proj" in name else 1.0
                weights[name].copy_(torch.tensor(part.reshape(weights[name].shape) / factor))
        expected = model(torch.tensor(TOKENS)).logits
    assert maxtext.outputs is not None
    np.testing.assert_allclose(maxtext.outputs(), expected, atol=1e-5)


def test_the_lines_that_the_file_changes_are_there(maxtext: Built) -> None:
    script = (Path(os.environ["MAXTEXT"]) / "maxtext/utils/train_utils.py").read_text()
    for line in (
        "def create_training_optimizer(config, model):",
        "tx = optimizers.get_optimizer(config, learning_rate_schedule, model)",
        "model = _create_model_partial()",
    ):
        assert script.count(line) == 1, line


def tree(**layers: Any) -> Tree:
    """Small parameters under MaxText's names, the layers not scanned."""
    shapes = {
        "pre_self_attention_layer_norm": {"scale": (4,)},
        "post_self_attention_layer_norm": {"scale": (4,)},
        "self_attention": {
            **{name: {"kernel": (4, 2, 2)} for name in ("query", "key", "value")},
            "out": {"kernel": (2, 2, 4)},
        },
        "mlp": {**{f"wi_{n}": {"kernel": (4, 8)} for n in (0, 1)}, "wo": {"kernel": (8, 4)}},
    }
    decoder = {"decoder_norm": {"scale": (4,)}, "logits_dense": {"kernel": (4, 8)}}
    whole = {
        "token_embedder": {"embedding": (8, 4)},
        "decoder": {**decoder, "layers_0": shapes | layers},
    }
    return jax.tree_util.tree_map(jnp.zeros, whole, is_leaf=lambda node: isinstance(node, tuple))


def test_what_is_not_claimed_once_is_an_error(
    fitted: Callable[..., Exponents], written: Emit
) -> None:
    emitted = executed(written(fitted(), "optax"))
    emitted["optimizer"](STEPS).init(tree())
    emitted["optimizer"](STEPS).init({"params": tree()})  # as Linen has them
    fused = tree(self_attention={"qkv_proj": {"kernel": (4, 6, 2)}})
    with pytest.raises(ValueError, match=r"qkv_proj/kernel: claimed by 0 patterns \[\]; correct"):
        emitted["optimizer"](STEPS).init(fused)
    tied = tree()
    del tied["decoder"]["logits_dense"]
    with pytest.raises(ValueError, match=r"no parameter has label \['readout'\]; tied or renamed"):
        emitted["optimizer"](STEPS).init(tied)
    odd = tree(mlp={"wi_0": {"kernel": (4, 3, 8)}, "wo": {"kernel": (8, 4)}})
    with pytest.raises(ValueError, match=r"wi_0/kernel: its shape \(4, 3, 8\) is not of the axes"):
        emitted["init_"](jax.random.key(0), odd)
    emitted["LABELS"]["decoder/logits_dense/.*"] = ("hidden", (), ())
    with pytest.raises(ValueError, match="logits_dense/kernel: claimed by 2 patterns"):
        emitted["labels"](tree())


@pytest.mark.parametrize("train", SCHEDULES)
def test_the_schedule_is_that_of_the_fit(
    fitted: Callable[..., Exponents], written: Emit, train: dict[str, Any]
) -> None:
    emitted = executed(written(fitted(train=train), "optax"))
    warmup = train.get("warmup", 2)
    expected = schedule_factors(40, warmup, train["schedule"], train.get("decay_fraction"))
    rate = emitted["schedule"](40)
    assert [float(rate(step)) for step in range(40)] == pytest.approx(expected, abs=1e-6)


def test_one_rate_for_all_parameters(fitted: Callable[..., Exponents]) -> None:
    known = without_protocol(fitted(), weight_decay=0.1)
    emitted = emit(known, Target(WIDTH, {}), "optax")
    transformation, lr = executed(emitted.text)["optimizer"](STEPS), emitted.recipe.base_lr.value
    weights = {"any": jnp.ones(3)}
    updates, _ = transformation.update({"any": jnp.zeros(3)}, transformation.init(weights), weights)
    np.testing.assert_allclose(updates["any"], -0.1 * lr, rtol=1e-6)
