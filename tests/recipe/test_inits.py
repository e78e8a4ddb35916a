"""A target starts as the proxies did: by name, otherwise by the law that their stds follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.inits import BaseInit, base_inits, with_inits
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import BaseParameter
from mutransfer_cli.spec.protocol import DeclaredProtocol
from mutransfer_cli.spec.records import BaseParameterRecord
from mutransfer_cli.strict import validated

BASE_WIDTH = 16
Proxies = Callable[..., Exponents]


def matrix(
    name: str, role: Role, std: float, shape: tuple[int, int] = (16, 16), **more: Any
) -> BaseParameter:
    axis = 0 if role == "embedding" else 1
    return BaseParameter(name, role, shape, (0, 1), std, fan_in_axis=axis, **more)


@pytest.fixture
def proxies(fitted: Exponents) -> Proxies:
    def of(*parameters: BaseParameter) -> Exponents:
        records = tuple(BaseParameterRecord.of(parameter) for parameter in parameters)
        return fitted.model_copy(update={"base_plan": records})

    return of


BY_FAN_IN = (
    matrix("embedding.weight", "embedding", 1.0, (64, 16)),
    matrix("up.weight", "hidden", 0.25),
    matrix("down.weight", "hidden", 0.125, (16, 64)),
    matrix("readout.weight", "readout", 0.25, (64, 16)),
)
ALL_EQUAL = (
    matrix("wte.weight", "embedding", 0.02, (64, 16)),
    matrix("up.weight", "hidden", 0.0201),
    matrix("down.weight", "hidden", 0.0199, (16, 64)),
    matrix("head.weight", "readout", 0.02, (64, 16)),
)


def test_stds_follow_the_fan_in_or_are_all_equal(proxies: Proxies) -> None:
    assert base_inits(proxies(*BY_FAN_IN)) == {
        "embedding": BaseInit(1.0),
        "hidden": BaseInit(0.25, 16),
        "readout": BaseInit(0.25, 16),
    }
    assert base_inits(proxies(*ALL_EQUAL))["hidden"] == BaseInit(0.0201)
    assert BaseInit(0.25, 16).at(64) == 0.125
    assert BaseInit(0.02).at(64) == 0.02


def test_stds_that_were_read_off_few_values_differ_by_chance(proxies: Proxies) -> None:
    """A std of 256 values is known to 4%."""
    few = matrix("up.weight", "hidden", 0.02), matrix("down.weight", "hidden", 0.0212, (16, 40))
    assert base_inits(proxies(*few))["hidden"] == BaseInit(0.02)
    by_fan_in = matrix("up.weight", "hidden", 0.26), matrix("down.weight", "hidden", 0.12, (16, 64))
    assert base_inits(proxies(*by_fan_in))["hidden"] == BaseInit(0.26, 16)
    many = (
        matrix("up.weight", "hidden", 0.02, (400, 400)),
        matrix("down.weight", "hidden", 0.0212, (400, 1000)),
    )
    assert "hidden" not in base_inits(proxies(*many))


def test_a_zero_query_is_a_kind_of_its_own(proxies: Proxies) -> None:
    zero = matrix("blocks.0.attention.query.weight", "hidden", 0.0)
    laws = base_inits(proxies(*BY_FAN_IN, zero))
    assert (laws["query"].std, laws["hidden"]) == (0.0, BaseInit(0.25, 16))
    drawn = matrix("blocks.0.attention.query.weight", "hidden", 0.25)
    assert "query" not in base_inits(proxies(*BY_FAN_IN, drawn))


def inits(found: Exponents, *target: BaseParameter) -> dict[str, float]:
    return {p.name: p.init_std for p in with_inits(found, target)}


LLAMA = (
    matrix("embed_tokens.weight", "embedding", 0.02, (1000, 16)),
    matrix("q_proj.weight", "hidden", 0.02),
    matrix("down_proj.weight", "hidden", 0.02, (16, 32)),
    matrix("lm_head.weight", "readout", 0.02, (1000, 16)),
    BaseParameter("norm.weight", "vector", (16,), (0,), 0.0, 1.0),
)


def test_a_target_of_other_names_starts_as_the_proxies_not_as_its_own_code_does(
    proxies: Proxies,
) -> None:
    assert inits(proxies(*BY_FAN_IN), *LLAMA) == {
        "embed_tokens.weight": 1.0,
        "q_proj.weight": 0.25,
        "down_proj.weight": pytest.approx(32**-0.5),
        "lm_head.weight": 0.25,
        "norm.weight": 0.0,
    }
    assert inits(proxies(*ALL_EQUAL), *LLAMA)["down_proj.weight"] == 0.0201


def test_the_same_names_keep_the_stds_that_were_swept(proxies: Proxies) -> None:
    smaller = (*ALL_EQUAL, matrix("c_proj.weight", "hidden", 0.01))
    found = proxies(*smaller)
    assert inits(found, *smaller) == {p.name: p.init_std for p in smaller}
    with pytest.raises(InputError) as raised:
        with_inits(found, LLAMA)
    assert str(raised.value) == (
        "q_proj.weight: hidden matrices of the proxies start at several stds (c_proj.weight 0.01, "
        "up.weight 0.0201), so that the one to use is not known; give the model that was swept"
    )


def test_a_factor_of_the_models_own_code_counts(proxies: Proxies) -> None:
    """Gemma multiplies embeddings by sqrt(width), so that std 1/4 at width 16 stands for std 1."""
    gemma = matrix("embed_tokens.weight", "embedding", 0.02, (64, 16), own_multiplier=0.5)
    (found,) = with_inits(proxies(*BY_FAN_IN), [gemma])
    assert (found.init_std, found.factor) == (1.0, 0.25), "its rate gets the factor too"
    swept = matrix("gemma.weight", "embedding", 0.25, (64, 16), own_multiplier=0.5)
    (found,) = with_inits(proxies(swept), LLAMA[:1])
    assert (found.init_std, found.factor) == (0.25, 4.0)
    (found,) = with_inits(proxies(swept), [gemma])
    assert (found.init_std, found.factor) == (0.25, 1.0)
    plain = matrix("embed_tokens.weight", "embedding", 0.02, (64, 16))
    (found,) = with_inits(proxies(plain), [gemma])
    assert (found.init_std, found.factor) == (0.02, 0.25), "the same name, and another function"


def test_a_convolution_counts_its_kernel(proxies: Proxies) -> None:
    conv = BaseParameter("conv.weight", "hidden", (16, 16, 3, 3), (0, 1), 0.1, fan_in_axis=1)
    assert inits(proxies(*BY_FAN_IN), conv) == {"conv.weight": pytest.approx(144**-0.5)}


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (matrix("wte", "embedding", 1.0), "wte: the proxies have no embedding matrix, so that its"),
        (
            BaseParameter("raw", "hidden", (16, 16), (0, 1), 0.1),
            "raw: its input axis is not known, and the proxies' stds follow the fan-in",
        ),
    ],
)
def test_what_is_not_known_is_refused(
    proxies: Proxies, parameter: BaseParameter, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        with_inits(proxies(*BY_FAN_IN[1:]), [parameter])


def test_own_results_may_declare_their_stds(fitted: Exponents) -> None:
    def declared(**model: Any) -> Exponents:
        document = {
            "schema": "mutransfer.protocol/1",
            "parameterization": {"name": "mup", "base_width": 16},
            "optimizer": {"name": "adamw"},
            "train": {"batch": 4, "steps": 10},
            "model": model,
        }
        protocol = validated(DeclaredProtocol, document, "protocol")
        return fitted.model_copy(update={"protocol": protocol, "base_plan": ()})

    known = declared(init_std={"embedding": 0.02, "hidden": 0.03, "readout": 0.02})
    assert inits(known, *LLAMA)["down_proj.weight"] == 0.03
    assert inits(declared(), *LLAMA) == {p.name: p.init_std for p in LLAMA}, "its own"
    assert declared().protocol != known.protocol
    with pytest.raises(InputError, match=r"start; declare model.init_std.embedding"):
        with_inits(declared(init_std={"hidden": 0.03}), LLAMA)
