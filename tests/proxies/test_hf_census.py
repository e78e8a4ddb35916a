"""Causal LMs of transformers at small sizes: their roles, refusals, and sizes at init.

Roles are compared with those written by hand. `benchmarks/model_census.py` prints the whole table.
"""

from __future__ import annotations

import re

import pytest

from benchmarks.model_census import TOLERANCE, causal_types, measured
from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.build import read_model
from tests.proxies.at_init import LOGITS, slopes, small_model
from tests.proxies.census import CONTEXT, WIDTH
from tests.proxies.census_roles import ROLES

pytest.importorskip("transformers")

LONGEST_REFUSAL = 400  # characters

PLANNED = [
    "apertus",
    "arcee",
    "bamba",
    "bart",
    "biogpt",
    "blenderbot",
    "codegen",
    "cohere2",
    "ctrl",
    "deepseek_v2",
    "electra",
    "exaone4",
    "falcon_h1",
    "gemma3n_text",
    "gemma4_text",
    "glm4_moe",
    "gpt_bigcode",
    "gpt_neo",
    "gptj",
    "granitemoe",
    "hunyuan_v1_dense",
    "lfm2",
    "llama4_text",
    "minicpm3",
    "mistral",
    "nemotron",
    "olmoe",
    "persimmon",
    "phi",
    "pegasus",
    "recurrent_gemma",
    "smollm3",
    "stablelm",
    "starcoder2",
    "vaultgemma",
    "xglm",
    "zamba2",
]
REFUSED = {
    "blt": "blt has no hidden_size",
    "cpmant": "the logits of cpmant depend on later tokens",
    "gemma3": "give its text_config",
    "musicgen": "musicgen has no hidden_size",
    "qwen3_5_moe": "give its text_config",
    "reformer": "axial_pos_embds",
    "xlnet": "the logits of xlnet depend on later tokens",
}


def test_sixty_types_are_tried() -> None:
    assert len({*ROLES, *PLANNED, *REFUSED}) >= 60


@pytest.mark.parametrize("model_type", ROLES)
def test_roles_are_those_of_a_reader_of_the_architecture(model_type: str) -> None:
    found: dict[str, set[str]] = {}
    for parameter in read_model(small_model(model_type), CONTEXT, WIDTH).base_plan:
        name = re.sub(r"\.\d+\.", ".N.", parameter.name)
        found.setdefault(name, set()).add(parameter.role)
    assert found == {name: {role} for name, role in ROLES[model_type].items()}


@pytest.mark.parametrize("model_type", PLANNED)
def test_other_types_are_planned(model_type: str) -> None:
    reading = read_model(small_model(model_type), CONTEXT, WIDTH)
    assert not reading.tried.why_not
    assert {"embedding", "hidden", "readout"} <= {p.role for p in reading.base_plan}


@pytest.mark.parametrize("model_type", REFUSED)
def test_the_rest_is_refused_in_one_sentence(model_type: str) -> None:
    with pytest.raises(InputError, match=re.escape(REFUSED[model_type])) as raised:
        read_model(small_model(model_type), CONTEXT, WIDTH)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < LONGEST_REFUSAL


@pytest.mark.parametrize("model_type", ["opt", "mixtral", "mamba2", "gemma2"])
def test_sizes_at_init_follow_the_rule(model_type: str) -> None:
    found = slopes(small_model(model_type), (64, 128, 256), range(3))
    assert found[LOGITS][1] == -0.5
    assert len(found) >= 4, "embeddings, two blocks, logits"
    for name, (slope, rule) in found.items():
        assert slope == pytest.approx(rule, abs=TOLERANCE), name


@pytest.mark.slow
@pytest.mark.parametrize("model_type", causal_types())
def test_every_type_is_within_the_tolerance_or_refused(model_type: str) -> None:
    row = measured(model_type)
    assert "\n" not in row.refused
    assert len(row.refused) < LONGEST_REFUSAL
    if not row.refused:
        assert row.outcome == "within", row.worst
