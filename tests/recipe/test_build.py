from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mutransfer_cli.errors import InputError, InsufficientEvidence
from mutransfer_cli.fit.axes import axes_of, fit_axes
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.fit.from_records import exponents_of
from mutransfer_cli.recipe import build
from mutransfer_cli.recipe.build import build_recipe, fitted_at
from mutransfer_cli.recipe.formats import dispatch
from mutransfer_cli.recipe.formats.stock import stock_llama
from mutransfer_cli.recipe.roles import Target, name_pattern
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import AXES, TargetModel
from mutransfer_cli.spec.records import Records
from mutransfer_cli.spec.tables import trial_frame
from mutransfer_cli.spec.yaml_io import dump, load_yaml
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep
from tests.conftest import CPU
from tests.made_up import record

Prepare = Callable[[dict[str, Any]], Sweep]
WIDTHS = (8, 16, 24, 32, 48)


def exponents(sweep: Sweep, drift: float = 0.0, widths: tuple[int, ...] = WIDTHS) -> Exponents:
    """The fit of made-up losses whose best lr is 2^-6 * (width / 16)^drift."""
    random = np.random.default_rng(0)
    trials = [
        record(
            f"{width}-{x}",
            width=width,
            lr=2.0**x,
            eval_loss=2.0
            + 1 / width
            + 0.04 * (x + 6 - drift * np.log2(width / 16)) ** 2
            + random.normal(0, 0.001),
        )
        for width in widths
        for x in np.arange(-10.0, -2.0)
    ]
    records = Records(sweep.header(CPU), tuple(trials))
    return fitted(records)


def fitted(records: Records) -> Exponents:
    protocol, frame = records.header.protocol, trial_frame(records.trials)
    convention = protocol.parameterization.decay_convention
    frame = frame.assign(weight_decay=protocol.optimizer.weight_decay)
    fits = fit_axes({"": frame}, AXES, convention, "eval_loss", protocol=protocol)
    return exponents_of(
        "eval_loss",
        {"ok": len(records.trials)},
        fits,
        protocol,
        base_plan=records.header.base_plan,
        convention=convention,
    )


def recipe_of(
    found: Exponents, width: int, said: dict[str, str] | None = None, folded: bool = False
) -> Recipe:
    return build_recipe(found, Target(width, said or {}, folded))


@pytest.fixture
def sweep(tiny: dict[str, Any], prepare: Prepare) -> Sweep:
    tiny["optimizer"] = {"weight_decay": 0.1}
    return prepare(tiny)


def test_the_recipe_is_the_plan_at_the_target(sweep: Sweep) -> None:
    recipe = recipe_of(exponents(sweep), 256)
    base = recipe.base_lr.value
    assert base == pytest.approx(2**-6, rel=0.05)
    lr = {role: recipe.roles[role].lr.value for role in recipe.roles}
    # sixteen times the base width 16
    assert lr == pytest.approx({"embedding": base / 4, "hidden": base / 16, "readout": base / 4})
    assert recipe.roles["readout"].multiplier.value == pytest.approx(1 / 4)
    assert recipe.roles["hidden"].weight_decay.value == pytest.approx(0.1 * 16)
    assert recipe.roles["hidden"].weight_decay.convention == "lr_coupled"
    assert recipe.roles["embedding"].weight_decay.value == 0
    (up, down) = (p for p in recipe.roles["hidden"].parameters if re.search("up|down", p.pattern))
    assert (up.std, down.std) == pytest.approx((1 / 16, 1 / 32))


def test_every_parameter_of_the_target_matches_one_pattern(
    sweep: Sweep, tiny: dict[str, Any], prepare: Prepare
) -> None:
    recipe = recipe_of(exponents(sweep), 64)
    patterns = [p.pattern for role in recipe.roles.values() for p in role.parameters]
    tiny["model"]["depth"] = 12
    names = [name for name, _ in prepare(tiny).model(64).named_parameters()]
    for name in names:
        assert sum(re.match(pattern, name) is not None for pattern in patterns) == 1
    for pattern in patterns:
        assert any(re.match(pattern, name) for name in names)


def test_patterns_are_anchored_and_take_any_block() -> None:
    pattern = name_pattern("blocks.0.up.weight")
    assert pattern == r"^blocks\.\d+\.up\.weight$"
    assert re.match(pattern, "blocks.11.up.weight")
    assert not re.match(pattern, "blocks.11.up.weight_scale")


def test_names_that_are_numbers_keep_them_where_roles_differ(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    tiny["model"] = {"factory": "tests.proxies.own_models:sequential"}
    recipe = recipe_of(exponents(prepare(tiny)), 64)
    patterns = {role: [p.pattern for p in recipe.roles[role].parameters] for role in recipe.roles}
    assert patterns == {
        "embedding": [r"^0\.weight$"],
        "hidden": [r"^1\.weight$", r"^2\.weight$"],
        "readout": [r"^3\.weight$"],
    }


def test_the_interval_widens_with_distance(sweep: Sweep) -> None:
    axis = exponents(sweep).axes["lr"]
    widths = []
    for width in (24, 64, 512, 4096):
        lr = fitted_at("lr", axis, width)
        assert lr.low is not None
        assert lr.high is not None
        assert lr.low < lr.value < lr.high
        widths.append(lr.high / lr.low)
    assert widths == sorted(widths)


def test_a_drift_is_carried_to_the_target_and_named(sweep: Sweep) -> None:
    recipe = recipe_of(exponents(sweep, drift=-0.5), 64)
    assert recipe.base_lr.value == pytest.approx(2**-6 * 4**-0.5, rel=0.05)
    assert any("the rule expects exponent 0" in warning for warning in recipe.warnings)


def test_far_targets_are_labelled(sweep: Sweep) -> None:
    assert not recipe_of(exponents(sweep), 376).warnings
    (warning,) = recipe_of(exponents(sweep), 8 * 48).warnings
    assert warning.startswith("width 384 is 8x the largest fitted width 48: from 8x on")
    (warning,) = recipe_of(exponents(sweep), 4096).warnings
    assert warning.startswith("width 4096 is 85.3x the largest fitted width 48")
    (warning,) = recipe_of(exponents(sweep, widths=(128, 256, 512, 1024)), 8).warnings[:1]
    assert warning.startswith("width 8 is 16x below the smallest fitted width 128")


def test_a_line_that_no_form_was_held_against_is_named(sweep: Sweep) -> None:
    four = exponents(sweep, widths=(8, 16, 32, 64))
    (warning,) = recipe_of(four, 256).warnings
    assert warning.startswith("the forecast of lr at width 256 assumes a straight line")
    assert not recipe_of(four, 48).warnings, "inside the widths nothing is extrapolated"


def test_a_target_that_differs_is_a_warning_and_nothing_is_rescaled(sweep: Sweep) -> None:
    plain = recipe_of(exponents(sweep), 64)
    target = {"depth": "24", "steps": "1e1", "schedule": "cosine", "clip": "1"}
    said = recipe_of(exponents(sweep), 64, target)
    assert [warning.split(":")[0] for warning in said.warnings] == ["depth", "schedule"]
    assert said.warnings[0].startswith("depth: the fit was made under 1 and the target has 24")
    assert said.roles == plain.roles
    with pytest.raises(InputError, match="target: depth: expected a whole number such as 32"):
        recipe_of(exponents(sweep), 64, {"depth": "deep"})
    with pytest.raises(InputError, match="target depht: unknown; did you mean 'depth'"):
        recipe_of(exponents(sweep), 64, {"depht": "24"})


def test_a_head_size_that_does_not_divide_is_a_warning(sweep: Sweep) -> None:
    assert (
        "not a multiple of the proxies' head_size 8" in recipe_of(exponents(sweep), 100).warnings[0]
    )


def test_every_number_has_a_status_and_fitted_ones_an_interval(sweep: Sweep) -> None:
    quantities = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "value" in node:
                quantities.append(node)
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    text = dump(recipe_of(exponents(sweep), 64))
    walk(load_yaml(text, "recipe"))
    assert len(quantities) > 20
    for quantity in quantities:
        assert quantity["status"] in ("derived", "fitted", "assumed")
        assert ("low" in quantity) == (quantity["status"] == "fitted")


def test_a_recipe_and_exponents_are_read_back_as_written(sweep: Sweep) -> None:
    found = exponents(sweep)
    assert validated(Exponents, load_yaml(dump(found), "x"), "x") == found
    assert validated(Exponents, load_yaml(dump(found, as_json=True), "x"), "x") == found
    recipe = recipe_of(found, 64)
    assert validated(Recipe, load_yaml(dump(recipe), "x"), "x") == recipe


def test_without_a_fit_there_is_no_recipe(sweep: Sweep) -> None:
    refused = exponents(sweep, widths=(16, 24))
    assert refused.axes["lr"].exponent is None
    with pytest.raises(InsufficientEvidence, match="hold no usable fit of lr: 2 of 2 widths"):
        recipe_of(refused, 64)


def test_folded_the_model_needs_no_multipliers(sweep: Sweep) -> None:
    plain = recipe_of(exponents(sweep), 256)
    folded = recipe_of(exponents(sweep), 256, folded=True)
    for role, there in folded.roles.items():
        here = plain.roles[role]
        m = here.multiplier.value
        assert there.multiplier.value == 1
        assert there.lr.value == pytest.approx(here.lr.value * m)
        assert there.weight_decay.value == pytest.approx(here.weight_decay.value / m)
        assert there.eps is not None
        assert here.eps is not None
        assert there.eps.value == pytest.approx(here.eps.value / m)
        for before, after in zip(here.parameters, there.parameters, strict=True):
            assert after.std == pytest.approx((before.std or 0) * m)
    limits = [warning for warning in folded.warnings if warning.startswith("folded: ")]
    assert any(
        "gradient clipping will act at a different threshold: the folded embedding counts 0."
        in limit
        for limit in limits
    )
    assert not any(warning.startswith("folded: ") for warning in plain.warnings)


def test_decay_is_given_in_the_convention_of_the_spec(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    tiny["parameterization"]["decay_convention"] = "independent"
    tiny["optimizer"] = {"weight_decay": 1e-3}
    for width in (32, 256):
        decay = recipe_of(exponents(prepare(tiny)), width).roles["hidden"].weight_decay
        assert decay.convention == "independent"
        assert decay.value == pytest.approx(1e-3)


def test_a_role_is_updated_by_its_own_optimizer(tiny: dict[str, Any], prepare: Prepare) -> None:
    tiny["optimizer"] = {"name": "muon"}
    recipe = recipe_of(exponents(prepare(tiny)), 64)
    assert recipe.optimizer == {"name": "muon", "momentum": 0.95, "lr_adjustment": "original"}
    hidden, readout = recipe.roles["hidden"], recipe.roles["readout"]
    assert (hidden.optimizer, hidden.eps, hidden.betas) == ("muon", None, None)
    assert readout.optimizer == "adamw"
    assert readout.betas is not None
    tiny["optimizer"] = {"name": "sgd"}
    sgd = recipe_of(exponents(prepare(tiny)), 64).roles["hidden"]
    assert (sgd.optimizer, sgd.eps, sgd.betas) == ("sgd", None, None)


def test_a_fixed_factor_is_in_the_rate_of_its_role(tiny: dict[str, Any], prepare: Prepare) -> None:
    plain = recipe_of(exponents(prepare(tiny)), 64)
    tiny["optimizer"] = {"lr_mult": {"hidden": 4}}
    tuned = recipe_of(exponents(prepare(tiny)), 64)
    assert tuned.lr_mult["hidden"].value == 4
    assert tuned.lr_mult["hidden"].status == "assumed"
    ratio = {role: tuned.roles[role].lr.value / plain.roles[role].lr.value for role in plain.roles}
    assert ratio == pytest.approx({"embedding": 1, "hidden": 4, "readout": 1})


def test_a_swept_factor_is_fitted_and_widens_the_interval(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    """The best rate is 2^-6 and the embedding's best factor 2, at every width."""
    random = np.random.default_rng(0)
    factors = {"lr": [0.1, 0.2], "lr_mult.embedding": [0.5, 1]}
    tiny["sweep"]["axes"] = factors
    trials = [
        record(
            f"{width}-{x}-{y}",
            width=width,
            lr=2.0**x,
            lr_mult_embedding=2.0**y,
            eval_loss=2 + 0.04 * (x + 6) ** 2 + 0.02 * (y - 1) ** 2 + random.normal(0, 0.001),
        )
        for width in WIDTHS
        for x in np.arange(-10.0, -2.0)
        for y in np.arange(-2.0, 5.0)
    ]
    records = Records(prepare(tiny).header(CPU), tuple(trials))
    frame = trial_frame(records.trials)
    assert axes_of(frame, AXES) == ["lr", "lr_mult.embedding"]
    recipe = recipe_of(fitted(records), 64)
    assert recipe.lr_mult["embedding"].value == pytest.approx(2, rel=0.1)
    assert recipe.lr_mult["embedding"].status == "fitted"

    def spread(role: Role) -> float:
        lr = recipe.roles[role].lr
        assert lr.low is not None
        assert lr.high is not None
        return lr.high / lr.low

    assert spread("embedding") > spread("hidden")
    assert recipe.roles["embedding"].lr.source.startswith("base_lr * lr_mult.embedding * width")


def test_the_forecast_says_what_one_run_may_find_and_what_the_value_costs(sweep: Sweep) -> None:
    spreads, costs = [], []
    for width in (64, 512, 4096):
        recipe = recipe_of(exponents(sweep), width)
        found = recipe.forecast["lr"]
        assert found.expected_excess_loss is not None
        assert found.low < recipe.base_lr.value < found.high
        assert recipe.base_lr.low is not None
        assert found.low <= recipe.base_lr.low, "one run scatters more than the line"
        spreads.append(found.high / found.low)
        costs.append(found.expected_excess_loss)
    assert spreads == sorted(spreads)
    assert costs == sorted(costs)
    assert "; that is 85.3x the largest fitted width" in found.sentence


def test_multipliers_are_folded_where_that_is_exact(tiny: dict[str, Any], prepare: Prepare) -> None:
    def multipliers(folded: bool | None = None, **changes: Any) -> set[float]:
        spec = tiny | {"train": tiny["train"] | {"clip": changes.pop("clip", None)}} | changes
        recipe = build_recipe(exponents(prepare(spec)), Target(256, {}, folded))
        return {role.multiplier.value for role in recipe.roles.values()}

    assert multipliers() == {1}
    assert multipliers(folded=False) == {4, 1, 1 / 4}
    assert multipliers(clip=1.0) == {4, 1, 1 / 4}, "the norm counts folded gradients otherwise"
    assert multipliers(optimizer={"name": "adafactor"}) == {4, 1, 1 / 4}, "as the floor does"


@pytest.mark.parametrize("to", ["yaml", "pytorch", "torchtitan", "megatron", "nemo-automodel"])
def test_a_recipe_is_built_once_whatever_the_format(
    sweep: Sweep, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(name: str) -> None:
        original = getattr(build, name)

        def call(*args: Any) -> Any:
            calls.append(name)
            return original(*args)

        for module in (build, dispatch):
            monkeypatch.setattr(module, name, call, raising=False)

    for name in ("build_recipe", "forecast", "_distance_warnings"):
        counted(name)
    dispatch.emit(exponents(sweep), Target(64, {}), to, allow_lossy=True)
    assert sorted(calls) == ["_distance_warnings", "build_recipe", "forecast"]


@pytest.mark.parametrize("model", [None, stock_llama(16, 64)], ids=["proxies", "llama"])
def test_another_rule_gives_what_building_with_it_gives(
    sweep: Sweep, model: TargetModel | None
) -> None:
    found = exponents(sweep)
    asked = Target(64, {}, folded=True, model=model)
    plain = build_recipe(found, Target(64, {}, folded=False))
    assert plain.warnings != build_recipe(found, asked).warnings
    assert build.with_rule_of(plain, found, asked) == build_recipe(found, asked)
