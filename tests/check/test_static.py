"""Every seeded fault of a recipe is found and named; an unchanged recipe passes."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from mutransfer_cli.check.measure import Gate
from mutransfer_cli.check.static import static_gate
from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.plan import BaseParameter, TargetModel
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.test_build import exponents

Prepare = Callable[[dict[str, Any]], Sweep]
Document = dict[str, Any]
WIDTH = 64  # four times the base width


@pytest.fixture
def make(tiny: Document, prepare: Prepare) -> Callable[..., Document]:
    """Make the recipe document of a sweep; keywords replace sections of the spec."""

    def written(
        width: int = WIDTH, folded: bool = True, target: TargetModel | None = None, **sections: Any
    ) -> Document:
        raw = copy.deepcopy(tiny) | {"optimizer": {"weight_decay": 0.1}}
        for name, section in sections.items():
            raw[name] = {**raw.get(name, {}), **section}
        asked = Target(width, {}, folded, model=target)
        found: Document = yaml.safe_load(dump(build_recipe(exponents(prepare(raw)), asked)))
        return found

    return written


def checked(document: Document) -> Gate:
    return static_gate(validated(Recipe, document, "recipe.yaml"))


def sentences(gate: Gate) -> list[str]:
    """Sentences of the failures."""
    return [m.sentence for m in gate.measures if m.verdict == "fail"] + list(gate.findings)


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"parameterization": {"name": "standard", "alignment": "none"}},
        {"parameterization": {"name": "mean_field", "epsilon": "per_layer"}},
        {"parameterization": {"decay_convention": "independent", "weight_decay": "1/2"}},
        {"parameterization": {"weight_decay": "sqrt_width", "readout_decay": "none"}},
        {"parameterization": {"weight_decay": "linear_width", "embedding_decay": "as_hidden"}},
        {"parameterization": {"weight_decay": "constant", "embedding_decay": "as_hidden"}},
        {"parameterization": {"name": "ntk", "lr_rule": "global"}},
        {"parameterization": {"alignment": {"readout": {"alpha": 1, "omega": 0.8, "u": 1}}}},
        {"optimizer": {"name": "muon", "lr_adjustment": "match_rms_adamw"}},
        {"optimizer": {"name": "adafactor"}},
        {"optimizer": {"lr_mult": {"embedding": 4, "readout": 0.5}}},
        {"model": {"readout_init": "zero"}},
        {"model": {"readout_init": "standard", "gains": "vector", "biases": True}},
        {"model": {"kv_heads": 1}},
    ],
)
def test_a_recipe_as_written_is_right(
    make: Callable[..., Document], sections: Document, folded: bool
) -> None:
    gate = checked(make(folded=folded, **sections))
    assert gate.verdict == "pass", gate
    quantities = {measure.quantity.split(":")[0] for measure in gate.measures}
    assert {"lr", "weight_decay", "multiplier", "init_std", "attention_scale"} <= quantities
    (scale,) = [m.sentence for m in gate.measures if m.quantity.startswith("attention_scale")]
    assert re.fullmatch(r"attention scale \S+ of head size 8 is 0\.\d+, as it should be", scale)


def test_at_the_base_width_it_is_the_plain_model(make: Callable[..., Document]) -> None:
    document = make(16, folded=False)
    assert checked(document).verdict == "pass"
    document["roles"]["readout"]["multiplier"]["value"] = 0.5
    assert sentences(checked(document)) == [
        r"multiplier of ^readout\.weight$ (readout) is 0.5, by the rule 1; it is scaled with "
        "width, and the rule does not scale it"
    ]


def test_roles_without_parameters_are_held_against_the_rule_too(
    make: Callable[..., Document],
) -> None:
    """Recipes from own results with a declared protocol have no parameters."""
    document = make()
    for role in document["roles"].values():
        role["parameters"] = []
    assert checked(document).verdict == "pass"
    document["roles"]["readout"]["init_std_mult"]["value"] = 1.0
    (sentence,) = sentences(checked(document))
    assert sentence == "init_std of readout is 1, by the rule 0.25; it is not scaled with width"


def test_own_fan_ins_count(make: Callable[..., Document]) -> None:
    names = {"embed.weight": "embedding", "up.weight": "hidden", "down.weight": "hidden"}
    names["head.weight"] = "readout"
    base = tuple(
        BaseParameter(name, role, shape, (), 0.1, fan_in_axis=1)  # type: ignore[arg-type]
        for (name, role), shape in zip(
            names.items(), [(256, 16), (32, 16), (16, 32), (256, 16)], strict=True
        )
    )
    shapes = {"embed.weight": (256, 64), "up.weight": (160, 64), "down.weight": (64, 160)}
    model = TargetModel(WIDTH, base, shapes | {"head.weight": (256, 64)})
    document = make(target=model)
    down = document["roles"]["hidden"]["parameters"][1]
    assert down["base"] == {"init_std": pytest.approx(32**-0.5), "fan_in": [32, 160]}
    assert checked(document).verdict == "pass"
    del down["own"]
    assert any(re.match(r"lr of \^down", sentence) for sentence in sentences(checked(document)))


def value(document: Document, role: str, key: str) -> Document:
    found: Document = document["roles"][role][key]
    return found


def hidden_rate_is_the_bases(document: Document) -> None:
    value(document, "hidden", "lr")["value"] = document["base_lr"]["value"]


def embedding_rate_is_hiddens(document: Document) -> None:
    value(document, "embedding", "lr")["value"] = value(document, "hidden", "lr")["value"]


def rate_twice(document: Document) -> None:
    lr = value(document, "hidden", "lr")
    lr["value"] = lr["value"] ** 2 / document["base_lr"]["value"]


def decay_of_the_other_convention(document: Document) -> None:
    decay = value(document, "hidden", "weight_decay")
    decay["value"] *= value(document, "hidden", "lr")["value"]


def decay_says_the_other_convention(document: Document) -> None:
    value(document, "hidden", "weight_decay")["convention"] = "independent"


def decay_on_embeddings(document: Document) -> None:
    value(document, "embedding", "weight_decay")["value"] = 0.1


def one_init_std_of_the_base(document: Document) -> None:
    up = next(p for p in document["roles"]["hidden"]["parameters"] if "up" in p["pattern"])
    up["init_std"]["value"] = up["base"]["init_std"]


def without_multiplier(document: Document) -> None:
    value(document, "readout", "multiplier")["value"] = 1.0


def multiplier_twice(document: Document) -> None:
    value(document, "readout", "multiplier")["value"] **= 2


def another_attention_scale(document: Document) -> None:
    document["attention_scale"]["value"] = 8**-0.5


def another_eps(document: Document) -> None:
    value(document, "hidden", "eps")["value"] = 1e-6


def no_eps(document: Document) -> None:
    document["roles"]["hidden"]["eps"] = None


def claimed_twice(document: Document) -> None:
    roles = document["roles"]
    roles["hidden"]["parameters"].append(roles["readout"]["parameters"][0])


def another_optimizer(document: Document) -> None:
    document["roles"]["hidden"]["optimizer"] = "lion"


Seed = Callable[[Document], None]
FAULTS: dict[Seed, str] = {
    hidden_rate_is_the_bases: r"^lr of .*\(hidden\) is .*; it is not scaled with width",
    embedding_rate_is_hiddens: r"^lr of .*\(embedding\) is .*the rule does not scale it$",
    rate_twice: r"^lr of .*\(hidden\) is .*; it is scaled with width twice",
    decay_of_the_other_convention: r"^weight_decay of .*; it is in the other convention",
    decay_says_the_other_convention: r"^weight_decay of .*; it is in the other convention",
    decay_on_embeddings: r"^weight_decay of .*\(embedding\) is 0.1, by the rule 0$",
    one_init_std_of_the_base: r"^init_std of \S*up\S* \(hidden\) is .*; it is not scaled with",
    without_multiplier: r"^multiplier of .*\(readout\) is 1, .*so that the multiplier is missing$",
    multiplier_twice: r"^multiplier of .*\(readout\) is 0.25, .*; it is scaled with width twice$",
    another_attention_scale: r"^attention scale 1/d_head of head size 8 is 0.35.*should be 0.125$",
    another_eps: r"^eps of .*\(hidden\) is 1e-06, by the rule 1e-08",
    no_eps: r"^eps of .*\(hidden\) is missing, by the rule 1e-08",
    claimed_twice: r"^\^readout\S* is claimed by hidden and by readout; every parameter has one",
    another_optimizer: r"^roles.hidden.optimizer is lion; under adamw it is adamw$",
}
FOLDED: set[Seed] = {embedding_rate_is_hiddens}  # with multipliers the rate does scale


@pytest.mark.parametrize("seed", FAULTS, ids=lambda seed: seed.__name__)
def test_every_seeded_fault_is_named(make: Callable[..., Document], seed: Seed) -> None:
    document = make(folded=seed in FOLDED)
    seed(document)
    gate = checked(document)
    assert gate.verdict == "fail"
    (sentence,) = sentences(gate)
    assert re.search(FAULTS[seed], sentence), sentence


def test_what_a_model_shows_is_a_failure(make: Callable[..., Document]) -> None:
    recipe = validated(Recipe, make(), "recipe.yaml")
    gate = static_gate(recipe, ["no pattern claims head.bias"], ["multipliers of embeddings"])
    assert gate.verdict == "fail"
    assert gate.findings == ("no pattern claims head.bias",)
    assert gate.evidence["unchecked"] == "multipliers of embeddings"


def test_what_the_file_does_not_say_is_open(make: Callable[..., Document]) -> None:
    document = make()
    del document["rule"]
    gate = checked(document)
    assert gate.verdict == "inconclusive"
    assert "does not say all choices of its rule" in gate.measures[0].sentence
    document = make()
    for role in document["roles"].values():
        for parameters in role["parameters"]:
            del parameters["base"]
    assert checked(document).verdict == "inconclusive"


def test_without_a_rule_there_is_nothing_to_hold_it_against(
    make: Callable[..., Document],
) -> None:
    nothing = ("base_width", "parameterization", "optimizer", "attention_scale", "holds_for")
    document = make() | {"scope": "global", "roles": {}} | dict.fromkeys((*nothing, "rule"))
    gate = checked(document)
    assert gate.verdict == "inconclusive"
    assert "no protocol of the runs was declared" in gate.measures[0].sentence


@pytest.mark.parametrize("absent", [None, {}])
def test_a_recipe_without_provenance_is_refused(
    make: Callable[..., Document], absent: object
) -> None:
    message = "recipe.yaml: provenance is missing, so the runs behind the values"
    with pytest.raises(InputError, match=message):
        checked(make() | {"provenance": absent})
    document = make()
    del document["provenance"]
    with pytest.raises(InputError, match=message):
        checked(document)


def test_a_rule_that_contradicts_itself_is_refused(make: Callable[..., Document]) -> None:
    document = make()
    document["rule"]["epsilon"] = "none"
    with pytest.raises(InputError, match="epsilon none: adamw divides by sqrt"):
        checked(document)
    document = make()
    document["optimizer"]["momentum"] = 0.9
    with pytest.raises(InputError, match="optimizer: unknown key 'momentum'"):
        checked(document)
