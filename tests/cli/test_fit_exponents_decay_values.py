"""Weight decays of own results: declared as base values, as applied ones, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from mutransfer_cli.spec.yaml_io import load_yaml
from tests.conftest import Result

Run = Callable[..., Result]
WIDTHS, TARGET, BASE = (64, 96, 128, 256), 2048, 64  # the target is 32 times the base width


@pytest.fixture
def transferred(run: Run, tmp_path: Path) -> Callable[..., tuple[Any, str]]:
    """Return the recipe of a table of own results, and stderr of `transfer`."""

    def chain(
        applied: Callable[[int], list[float]] | None,
        protocol: dict[str, Any],
        *options: object,
    ) -> tuple[Any, str]:
        fit = fitted(run, tmp_path, applied, protocol, *options)
        assert fit.exit_code == 0, fit.stderr
        result = run("transfer", "--width", TARGET, stdin=fit.stdout)
        assert result.exit_code == 0, result.stderr
        return load_yaml(result.stdout, "recipe"), result.stderr

    return chain


def fitted(
    run: Run,
    folder: Path,
    applied: Callable[[int], list[float]] | None,
    changes: dict[str, Any],
    *options: object,
) -> Result:
    """Fit a table whose best lr is 2^-6, and whose best decay is the middle of those of a width."""
    random = np.random.default_rng(0)
    rows = []
    for width in WIDTHS:
        decays = applied(width) if applied else [0.0]
        for x in np.arange(-9.0, -3.0, 0.5):
            for place, decay in enumerate(decays):
                away = place - (len(decays) - 1) / 2
                loss = 3 + 0.02 * (x + 6) ** 2 + 0.02 * away**2 + random.normal(0, 0.001)
                rows.append({"width": width, "lr": 2.0**x, "loss": loss, "weight_decay": decay})
    table = pd.DataFrame(rows)
    if applied is None:
        del table["weight_decay"]
    table.to_csv(folder / "runs.csv", index=False)
    protocol: dict[str, Any] = {
        "schema": "mutransfer.protocol/1",
        "parameterization": {"name": "standard", "base_width": BASE},
        "optimizer": {"name": "adamw"},
        "train": {"batch": 32, "steps": 1000},
    }
    protocol["parameterization"] |= changes.pop("parameterization", {})
    (folder / "protocol.yaml").write_text(yaml.safe_dump(protocol | changes))
    return run(
        "fit-exponents", folder / "runs.csv", "--protocol", folder / "protocol.yaml", *options
    )


def rule(weight_decay: str = "linear_width", **more: str) -> dict[str, Any]:
    return {"weight_decay": weight_decay, "decay_convention": "lr_coupled"} | more


def constant(width: int) -> list[float]:
    return [0.1]


def grown(width: int) -> list[float]:
    return [float(f"{0.1 * width / BASE:.3g}")]


SCALED = "weight decay 0.100 -> 3.20: x32 by linear_width from base width 64"


def test_base_values_are_scaled_by_the_named_rule(
    transferred: Callable[..., tuple[Any, str]],
) -> None:
    recipe, stderr = transferred(
        constant, {"parameterization": rule(), "weight_decay_values": "base"}
    )
    assert SCALED in stderr
    assert "warning: weight decay" not in stderr
    decay = recipe["roles"]["hidden"]["weight_decay"]
    assert decay["value"] == pytest.approx(3.2)
    assert (decay["base"], decay["rule"], decay["factor"]) == (0.1, "linear_width", 32)
    assert recipe["rule"]["weight_decay"] == "linear_width"


def test_applied_values_are_converted_to_base_values_first(
    transferred: Callable[..., tuple[Any, str]], run: Run, tmp_path: Path
) -> None:
    changes = {"parameterization": rule(), "weight_decay_values": "applied"}
    fit = fitted(run, tmp_path, grown, dict(changes))
    assert (
        "weight_decay: base values are those of the table over (width / 64)^1, by linear_width"
        in fit.stderr
    )
    recipe, stderr = transferred(grown, dict(changes))
    assert SCALED in stderr
    assert recipe["base_weight_decay"]["value"] == 0.1
    same, _ = transferred(constant, {**changes, "parameterization": rule("constant")})
    assert same["roles"]["hidden"]["weight_decay"]["value"] == 0.1


@pytest.mark.parametrize(
    "parameterization", [{}, {"weight_decay": "linear_width"}, {"weight_decay": "sqrt_width"}]
)
def test_without_a_declaration_no_rule_is_applied_and_the_recipe_says_why(
    transferred: Callable[..., tuple[Any, str]], parameterization: dict[str, str]
) -> None:
    recipe, stderr = transferred(constant, {"parameterization": parameterization})
    assert "weight decay 0.100 ->" not in stderr
    assert "warning: weight decay 0.1 is not scaled with width, because the protocol" in stderr
    assert "(weight_decay_values: base or applied)" in stderr
    for role in ("hidden", "readout"):
        decay = recipe["roles"][role]["weight_decay"]
        assert (decay["value"], decay["status"], decay["factor"]) == (0.1, "assumed", 1)
        assert "rule" not in decay
        assert "no rule scales it" in decay["source"]
    assert recipe["roles"]["hidden"]["lr"]["value"] == pytest.approx(
        recipe["base_lr"]["value"] / 32
    ), "rates are scaled all the same"


def test_so_it_is_for_a_value_in_the_protocol(
    transferred: Callable[..., tuple[Any, str]], run: Run, tmp_path: Path
) -> None:
    optimizer = {"name": "adamw", "weight_decay": 0.1}
    recipe, stderr = transferred(None, {"optimizer": optimizer})
    assert "warning: weight decay 0.1 is not scaled with width" in stderr
    assert recipe["roles"]["hidden"]["weight_decay"]["value"] == 0.1
    declared = {"parameterization": rule(), "weight_decay_values": "base", "optimizer": optimizer}
    _, stderr = transferred(None, dict(declared))
    assert SCALED in stderr
    fit = fitted(run, tmp_path, None, {**declared, "weight_decay_values": "applied"})
    assert fit.exit_code == 2
    assert "the table has no column weight_decay to convert" in fit.stderr


def test_a_fitted_decay_that_is_not_declared_is_taken_at_the_target(
    transferred: Callable[..., tuple[Any, str]], run: Run, tmp_path: Path
) -> None:
    """The best applied decay grows as the width, 0.1 at the base width."""

    def axis(width: int) -> list[float]:
        return [0.1 * width / BASE * 2.0**y for y in (-2, -1, 0, 1, 2)]

    silent: dict[str, Any] = {"parameterization": {"decay_convention": "lr_coupled"}}
    fit = load_yaml(fitted(run, tmp_path, axis, dict(silent)).stdout, "fit")
    assert fit["axes"]["weight_decay"]["expected_exponent"] is None
    assert fit["axes"]["weight_decay"]["exponent"]["value"] == pytest.approx(1, abs=0.1)
    recipe, stderr = transferred(axis, dict(silent))
    assert "the rule expects exponent" not in stderr
    decay = recipe["roles"]["hidden"]["weight_decay"]
    assert decay["value"] == recipe["base_weight_decay"]["value"] == pytest.approx(3.2, rel=0.3)
    assert recipe["base_weight_decay"]["status"] == "fitted"
    assert decay["status"] == "assumed"
    declared = {"parameterization": rule(), "weight_decay_values": "applied"}
    fit = load_yaml(fitted(run, tmp_path, axis, dict(declared)).stdout, "fit")
    assert fit["axes"]["weight_decay"]["expected_exponent"] == 0
    assert fit["axes"]["weight_decay"]["exponent"]["value"] == pytest.approx(0, abs=0.1)
    recipe, _ = transferred(axis, dict(declared))
    assert recipe["base_weight_decay"]["value"] == pytest.approx(0.1, rel=0.3)
    hidden = recipe["roles"]["hidden"]["weight_decay"]
    assert hidden["value"] == pytest.approx(32 * recipe["base_weight_decay"]["value"])
    assert hidden["status"] == "fitted"


@pytest.mark.parametrize(
    ("applied", "changes", "sentence"),
    [
        (
            constant,
            {"parameterization": rule()},
            "weight_decay linear_width converts 0.1 at width 64 to 0.1, 0.1 at width 256 to 0.025",
        ),
        (
            grown,
            {"parameterization": {"weight_decay": "linear_width"}},
            "weight_decay varies: say whether its convention is lr_coupled",
        ),
        (constant, {"parameterization": rule("none")}, "leaves no weight decay to convert"),
        (constant, {}, "parameterization.weight_decay names no rule by which they change"),
        (
            grown,
            {"parameterization": rule(), "optimizer": {"name": "adamw", "weight_decay": 0.4}},
            "optimizer.weight_decay is 0.4 and every row of the table has 0.1 as its base value",
        ),
    ],
)
def test_applied_values_that_cannot_be_converted_are_refused(
    run: Run,
    tmp_path: Path,
    applied: Callable[[int], list[float]],
    changes: dict[str, Any],
    sentence: str,
) -> None:
    result = fitted(run, tmp_path, applied, changes | {"weight_decay_values": "applied"})
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_optima_are_converted_too(run: Run, tmp_path: Path) -> None:
    fitted(run, tmp_path, grown, {"parameterization": rule(), "weight_decay_values": "applied"})
    rows = [f"{w},{2.0**-8},{0.1 * w / BASE}" for w in (64, 128, 256, 512)]
    path = tmp_path / "optima.csv"
    path.write_text("\n".join(["width,lr,weight_decay", *rows]))
    options = ("--optima", "--grid-spacing", 1, "--protocol", tmp_path / "protocol.yaml")
    result = run("fit-exponents", path, *options)
    assert result.exit_code == 0, result.stderr
    document = load_yaml(result.stdout, "fit")
    assert (list(document["axes"]), document["weight_decay"]) == (["lr"], 0.1)
