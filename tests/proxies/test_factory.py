"""Own models get the roles that a reader of their code would give every parameter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.build import Reading, build_proxy, read_model
from mutransfer_cli.proxies.call import logits_of
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.proxies.factory import import_function, is_users, user_line
from mutransfer_cli.rules.plan import BaseParameter, BaseValues, plan
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.spec.model import FactoryProtocol
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.ensemble import multipliers
from mutransfer_cli.train.execution import EAGER, allowed
from tests.conftest import CPU

Prepare = Callable[[dict[str, Any]], Sweep]
MOE_ROLES = {"token.weight": "embedding", "position": "embedding"}


def read(
    name: str, roles: dict[str, Any] | None = None, notes: list[str] | None = None, **args: Any
) -> Reading:
    model = FactoryProtocol(
        factory=f"tests.proxies.own_models:{name}", args=args, roles=roles or {}, vocab=32
    )
    return read_model(model, 16, 16, (notes if notes is not None else []).append)


def roles_of(reading: Reading) -> dict[str, str]:
    return {p.name: p.role for p in reading.base_plan}


def test_an_mlp_over_tokens() -> None:
    assert roles_of(read("token_mlp")) == {
        "temperature": "scalar",
        "embed.weight": "embedding",
        "norm.weight": "vector",
        "norm.bias": "vector",
        "up.weight": "hidden",
        "up.bias": "vector",
        "down.weight": "hidden",
        "down.bias": "vector",
        "head.weight": "readout",
        "head.bias": "scalar",
    }


def test_a_convolutional_net_over_tokens() -> None:
    assert roles_of(read("conv_net")) == {
        "embed.weight": "embedding",
        "by_channel.weight": "vector",  # every channel sees only itself
        "by_channel.bias": "vector",
        "mix.weight": "hidden",
        "mix.bias": "vector",
        "norm.weight": "vector",
        "norm.bias": "vector",
        "back.weight": "hidden",
        "head.weight": "readout",
    }


def test_a_net_that_takes_no_tokens_is_read_and_not_trained() -> None:
    reading = read("image_net")
    assert roles_of(reading) == {
        "stem.weight": "embedding",  # three colours at every width
        "stem.bias": "vector",
        "body.weight": "hidden",
        "body.bias": "vector",
        "head.weight": "readout",
        "head.bias": "scalar",
    }
    assert reading.tried.why_not.startswith("RuntimeError: ")


def test_a_tied_transformer_with_experts() -> None:
    notes: list[str] = []
    block = {
        "attention.{}.query_gain": "scalar",
        "attention.{}.query.weight": "hidden",
        "attention.{}.key_value.weight": "hidden",  # fan-in alone grows
        "attention.{}.out.weight": "hidden",
        "experts.{}.up": "hidden",
        "experts.{}.down": "hidden",
        "experts.{}.router.weight": "hidden",  # fan-in alone grows
    }
    assert roles_of(read("tied_moe", MOE_ROLES, notes)) == {
        "token.weight": "embedding",
        "position": "embedding",
        **{name.format(b): role for b in (0, 1) for name, role in block.items()},
        "norm.weight": "vector",
    }
    assert notes[0] == "position: embedding, as model.roles says"
    assert any("token.weight is also head.weight" in note for note in notes)


def test_untied_it_has_a_readout() -> None:
    roles = roles_of(read("untied_moe", {"position": "embedding"}))
    assert (roles["token.weight"], roles["head.weight"]) == ("embedding", "readout")


def test_the_init_is_that_of_the_model() -> None:
    base = {p.name: p for p in read("tied_moe", MOE_ROLES).base_plan}
    assert (base["norm.weight"].init_mean, base["norm.weight"].init_std) == (1.0, 0.0)
    assert base["experts.0.up"].init_std == pytest.approx(16**-0.5, rel=0.05)
    assert base["experts.1.down"].init_std == pytest.approx(32**-0.5, rel=0.05)
    assert base["experts.0.up"].init_std == base["experts.1.up"].init_std, "the same but for chance"
    linear = {p.name: p for p in read("token_mlp").base_plan}["up.weight"]
    assert linear.init_std == pytest.approx((3 * 16) ** -0.5, rel=0.05), "uniform in torch"
    torch.manual_seed(1)
    first = read("token_mlp")
    torch.manual_seed(2)
    assert read("token_mlp") == first, "with a seed of its own"


def test_reading_leaves_the_random_numbers_of_the_caller_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    read("token_mlp")
    assert torch.equal(torch.rand(2), expected)


OWN = [
    ("token_mlp", {}),
    ("with_loss", {}),
    ("several_outputs", {}),
    ("padded_vocab", {}),
    ("conv_net", {}),
    ("tied_moe", MOE_ROLES),
    ("untied_moe", {"position": "embedding"}),
]


def own_spec(tiny: dict[str, Any], name: str, **model: Any) -> dict[str, Any]:
    return tiny | {"model": {"factory": f"tests.proxies.own_models:{name}", **model}}


def loss_of(model: nn.Module, inputs: Tensor, targets: Tensor, has_loss: bool) -> Tensor:
    if has_loss:
        loss: Tensor = model(inputs, targets)
        return loss
    logits = logits_of(model(inputs))
    assert logits is not None
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@pytest.mark.parametrize(("name", "roles"), OWN)
def test_at_the_base_width_it_is_the_plain_model(
    tiny: dict[str, Any], prepare: Prepare, name: str, roles: dict[str, str]
) -> None:
    sweep = prepare(own_spec(tiny, name, roles=roles))
    model = sweep.model(16)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert [p.name for p in sweep.base_plan] == trained, "every parameter once"
    planned = sweep.trial_plan(sweep.trials[16][0])
    inits = {p.name: (p.init_mean, p.init_std) for p in sweep.base_plan}
    assert {p.name: (p.init_mean, p.init_std) for p in planned} == inits
    assert {p.multiplier for p in planned} == {1.0}
    tokens = torch.randint(256, (2, 17), generator=torch.Generator().manual_seed(0))
    assert allowed(model, Example(tokens[:, :-1], 0), EAGER) == (EAGER, ""), "side by side"
    engine = sweep.trainer(16, device_text(sweep)).ensemble
    params = {n: p.detach()[None] for n, p in model.named_parameters() if p.requires_grad}
    found = engine.losses(params, multipliers(planned), tokens[None])
    expected = loss_of(model, tokens[:, :-1], tokens[:, 1:], name == "with_loss")
    torch.testing.assert_close(found[0], expected)


def device_text(sweep: Sweep) -> DeviceText:
    return DeviceText.on(CPU, sweep.corpus)


def test_first_values_have_the_means_and_stds_of_the_plan(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    sweep = prepare(own_spec(tiny, "token_mlp"))
    planned = sweep.trial_plan(sweep.trials[32][0])
    params = sweep.trainer(32, device_text(sweep)).ensemble.start([planned], [0]).params
    assert torch.equal(params["norm.weight"], torch.ones(1, 32))
    assert torch.equal(params["up.bias"], torch.zeros(1, 128))
    half = (3 * 16) ** -0.5 * 2**-0.5  # values of the base width, at twice that width
    assert float(params["up.weight"].std().detach()) == pytest.approx(half, rel=0.1)


def test_a_frozen_weight_keeps_its_value(tiny: dict[str, Any], prepare: Prepare) -> None:
    sweep = prepare(own_spec(tiny, "tied_moe", roles=MOE_ROLES))
    engine = sweep.trainer(24, device_text(sweep)).ensemble
    assert torch.equal(engine.buffers["unused"], torch.full((24,), 2.0))


def test_own_fan_ins_are_taken_where_they_do_not_grow_as_width() -> None:
    """A layer of rounded size, here at width 24 of base width 16."""
    base = [BaseParameter("down", "hidden", (16, 42), (0, 1), 0.1, fan_in_axis=1)]
    values = BaseValues(lr=1.0, weight_decay=0.0, eps=None)
    (found,) = plan(base, Rule("mup"), 16, 24, values, {"down": (24, 64)})
    assert found.shape == (24, 64)
    assert found.lr == pytest.approx(42 / 64)
    assert found.init_std == pytest.approx(0.1 * (42 / 64) ** 0.5)
    (by_width,) = plan(base, Rule("mup"), 16, 24, values)
    assert by_width.lr == pytest.approx(16 / 24)


def test_a_model_that_cannot_be_built_without_values_is_built_with_them() -> None:
    assert roles_of(read("needs_values"))["head.weight"] == "readout"


def test_layers_of_shared_weights_have_one_role() -> None:
    roles = roles_of(read("shared_layers"))
    assert roles["0.weight"] == "embedding"
    assert roles["1.weight"] == "hidden"
    assert roles["3.weight"] == "readout"


@pytest.mark.parametrize(
    ("name", "roles", "sentence"),
    [
        (
            "tied_moe",
            MOE_ROLES | {"token.weight": "readout"},
            "token.weight is tied to head.weight",
        ),
        (
            "token_mlp",
            {"nothing": "hidden"},
            "model.roles: no parameter's whole name matches 'nothing'",
        ),
        (
            "token_mlp",
            {"up.*": "vector", "up.weight": "hidden"},
            "up.weight is vector by one pattern and hidden by 'up.weight'",
        ),
        ("other_names", {}, r"hold different parameters \(of_16.bias, of_16.weight, of_32.bias\)"),
        ("stays", {}, "does not grow: 0.weight is 256 x 8"),
        (
            "last_token_only",
            {},
            r"logits of 2 x 16 tokens have shape \[2, 1, 32\], expected \[2, 16",
        ),
        (
            "text_output",
            {},
            r"forward returned tuple \(str, a tensor of shape \[2, 16, 32\]\), expected",
        ),
        ("without_width", {}, "takes size; it needs a parameter named width"),
        ("no_module", {}, "returned str, expected an nn.Module"),
        ("raises", {}, r"'no such size' \(own_models.py:\d+\)"),
        ("without_sizes", {}, "1.weight has no shape before a first forward pass, as in nn.Lazy"),
        ("absent", {}, "own_models.py has no function absent"),
        ("NOT_A_FUNCTION", {}, "holds no function but a value NOT_A_FUNCTION"),
    ],
)
def test_what_cannot_be_a_proxy_is_said_in_a_sentence(
    name: str, roles: dict[str, str], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as raised:
        read(name, roles)
    assert "\n" not in str(raised.value)


def test_an_argument_that_the_function_does_not_take() -> None:
    with pytest.raises(InputError, match="unexpected keyword argument 'depht'"):
        read("token_mlp", depht=3)


def test_logits_for_fewer_tokens_than_the_data_has() -> None:
    model = FactoryProtocol(
        factory="tests.proxies.own_models:small_vocab", args={}, roles={}, vocab=256
    )
    with pytest.raises(InputError, match=r"\[2, 16, 100\], expected \[2, 16, 256 or more\]"):
        read_model(model, 16, 16)


def test_dropout_is_off() -> None:
    model = FactoryProtocol(
        factory="tests.proxies.own_models:token_mlp", args={}, roles={}, vocab=32
    )
    assert build_proxy(model, 16, 16, 16).get_submodule("drop").p == 0.0


OWN_FILES = {
    "builds.py": """
import torch


def build(width):
    return helper(width)


def helper(width):
    return torch.zeros(width).view(3, 5)  # an error inside torch
""",
    "imports.py": """
import json

SETTINGS = json.loads("{")
""",
    "parses.py": """
def build(width):
    return (width
""",
    "leads.py": "import parses\n",
    "absent.py": "import math\nimport no_such_package\n",
}


@pytest.fixture
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in OWN_FILES.items():
        (tmp_path / name).write_text(text)
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own_files")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("builds", "raised RuntimeError at width 16: shape .* size 16 (builds.py:10)"),
        ("imports", "cannot be imported: JSONDecodeError: Expecting .* (imports.py:4)"),
        ("parses", "cannot be imported: SyntaxError: '(' was never closed (parses.py:3)"),
        ("leads", "cannot be imported: SyntaxError: '(' was never closed (parses.py:3)"),
        ("absent", "cannot be imported: ModuleNotFoundError: .* 'no_such_package' (absent.py:2)"),
        ("nowhere", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_an_error_in_the_users_code_names_her_file_and_line(name: str, sentence: str) -> None:
    model = FactoryProtocol(factory=f"{name}:build", args={}, roles={}, vocab=32)
    pattern = sentence.replace("(", r"\(").replace(")", r"\)") + "$"
    with pytest.raises(InputError, match=pattern):
        read_model(model, 16, 16)


def test_a_line_of_ours_or_of_a_library_is_not_the_users() -> None:
    with pytest.raises(InputError) as ours:
        import_function("no.such.module:build", "model.factory")
    assert user_line(ours.value) == f"test_factory.py:{sys._getframe().f_lineno - 1}"
    assert user_line(ValueError("never raised")) == ""
    assert not is_users(torch.nn.__file__)
    assert not is_users(read_model.__code__.co_filename)
    assert not is_users(subprocess.__file__)
    assert not is_users("<string>")
