"""The options of the built-in decoder: errors, presets, and the keys of a protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import DataProtocol
from mutransfer_cli.spec.decoder import ModelProtocol, TransformerSpec
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated

Run = Callable[..., Any]
DATA = DataProtocol(source="text", sha256="0" * 64, bytes=1000, eval_fraction=0.1)


def load(raw: dict[str, Any]) -> SweepSpec:
    return validated(SweepSpec, raw, "spec.yaml")


def protocol(raw: dict[str, Any]) -> Protocol:
    return Protocol.of(load(raw), DATA, 256)


WIDTH = "sweep.widths: found 24, "


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"head_size": 7}, "model.head_size: must be even for rotary positions, found 7"),
        ({"heads": 4, "head_size": 8}, "model: heads 4 and head_size 8: width grows by heads of"),
        ({"head_size": None}, "model: give head_size, or heads for a fixed number of them"),
        ({"heads": 3}, "base_width: found 16, which model.heads 3 does not divide; use 12 or 18"),
        ({"heads": 16}, "base_width: found 16, whose head size 1 is odd, and rotary .*; use 32"),
        ({"kv_heads": 2}, WIDTH + "whose 3 heads model.kv_heads 2 does not divide; use 16 or 32"),
        ({"kv_group": 2}, WIDTH + "whose 3 heads model.kv_group 2 does not divide; use 16 or 32"),
        ({"kv_heads": 3}, "base_width: found 16, whose 2 heads model.kv_heads 3 .*; use 24"),
        ({"kv_heads": 1, "kv_group": 2}, "model: kv_heads 1 and kv_group 2: the first is a fixed"),
        ({"heads": 4, "kv_group": 3}, "model.kv_group: found 3, which does not divide heads 4"),
        (
            {"mlp_ratio": "8/3"},
            r"found 16, of which model.mlp_ratio 8/3 is not a whole size \(42.6667\); use 24",
        ),
        ({"mlp_ratio": 0}, "model.mlp_ratio: expected a ratio such as 4, 3.5 or 8/3, found 0"),
        ({"mlp_ratio": "1e400"}, "model.mlp_ratio: expected a ratio such as .* found '1e400'"),
        ({"mlp_ratio": "big"}, "model.mlp_ratio: expected a ratio such as .* found 'big'"),
        ({"query_init": "zero", "qk_norm": True}, "model.query_init zero: qk_norm brings queries"),
        (
            {"tied_embeddings": True, "readout_init": "zero"},
            "model.readout_init zero: tied_embeddings make the readout's weight that of",
        ),
        ({"norm": "batch"}, "model.norm: unknown 'batch' .valid: rms, layer"),
        ({"preset": "lama"}, "model.preset: unknown 'lama'; did you mean 'llama'"),
        ({"gain": "vector"}, r"model: unknown key 'gain'; did you mean 'gains'\?"),
        (
            {"tied_embeddings": True},
            r"tied_embeddings: mup with lr_rule per_layer gives the embedding a multiplier of "
            r"width\^1/2 and the readout one of width\^-1/2, and one weight has one; take standard",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    tiny: dict[str, Any], model: dict[str, Any], sentence: str
) -> None:
    tiny["model"] |= model
    if "heads" in model and "head_size" not in model:
        del tiny["model"]["head_size"]
    with pytest.raises(InputError, match=sentence):
        load(tiny)


def test_on_the_command_line_that_is_exit_code_2(
    tiny: dict[str, Any], write_spec: Callable[[Any], Any], run: Run
) -> None:
    tiny["model"]["kv_group"] = 2
    result = run("sweep-proxy", write_spec(tiny), "--dry-run")
    assert result.exit_code == 2
    assert "sweep.widths: found 24, whose 3 heads model.kv_group 2 does not" in result.stderr
    tiny["sweep"]["widths"] = [32]
    result = run("rules", write_spec(tiny), "--width", 40)
    assert result.exit_code == 2
    assert "--width: found 40, whose 5 heads model.kv_group 2 does not divide" in result.stderr


def test_an_odd_head_size_needs_learned_positions(tiny: dict[str, Any]) -> None:
    tiny["model"] = {"head_size": 1, "positions": "learned"}
    assert load(tiny).model == TransformerSpec(head_size=1, positions="learned")


def test_a_suggested_width_is_one_that_is_taken(tiny: dict[str, Any]) -> None:
    """The suggestion satisfies all options at once."""
    tiny["model"] |= {"kv_group": 2, "mlp_ratio": "8/3"}
    with pytest.raises(InputError, match="use 48"):
        load(tiny)
    tiny["parameterization"]["base_width"] = 48
    tiny["sweep"]["widths"] = [48, 96]
    assert load(tiny).sweep.widths == (48, 96)


def test_sizes_at_a_width() -> None:
    llama = TransformerSpec.model_validate({"preset": "llama", "head_size": 8, "kv_group": 2})
    assert [llama.heads_at(width) for width in (16, 64)] == [2, 8]
    assert [llama.kv_heads_at(width) for width in (16, 64)] == [1, 4]
    assert [llama.inner_size_at(width) for width in (16, 64)] == [56, 224]
    grows = TransformerSpec.model_validate({"heads": 4, "kv_heads": 1})
    assert [grows.head_size_at(width) for width in (32, 64)] == [8, 16]
    assert [(grows.heads_at(n), grows.kv_heads_at(n)) for n in (32, 64)] == [(4, 1)] * 2


def test_keys_beside_a_preset_replace_its_own() -> None:
    def llama(**keys: Any) -> TransformerSpec:
        return TransformerSpec.model_validate({"preset": "llama"} | keys)

    found = llama(gains="none", kv_heads=1)
    assert (found.mlp, found.mlp_ratio, found.gains) == ("swiglu", "7/2", "none")
    assert (found.kv_heads, found.kv_group) == (1, None)
    assert llama().kv_group == 4
    assert llama(kv_group=1).has_fused_qkv
    assert llama(kv_group=None).has_fused_qkv


def test_a_protocol_holds_the_resolved_options_where_they_are_not_the_default(
    tiny: dict[str, Any],
) -> None:
    tiny["model"] = {"preset": "llama", "head_size": 8, "kv_group": 2, "mlp_ratio": 3.5}
    tiny["sweep"]["widths"] = [32]
    made = protocol(tiny)
    assert made.model_dump(mode="json")["model"] == {
        "family": "transformer",
        "depth": 2,
        "head_size": 8,
        "vocab": 256,
        "attention_scale": "1/d_head",
        "gains": "vector",
        "mlp": "swiglu",
        "mlp_ratio": "7/2",
        "kv_group": 2,
    }
    again = Protocol.model_validate(made.model_dump(mode="json"))
    assert again == made
    assert isinstance(again.model, ModelProtocol)
    options = {"gains": "vector", "mlp": "swiglu", "mlp_ratio": "7/2", "kv_group": 2}
    assert again.model.options == options
    tiny["model"] = made.model_dump(mode="json")["model"]
    del tiny["model"]["vocab"]
    assert protocol(tiny).hash == made.hash


def test_a_fixed_number_of_heads_has_no_head_size(tiny: dict[str, Any]) -> None:
    tiny["model"] = {"heads": 4}
    model = protocol(tiny).model_dump(mode="json")["model"]
    assert (model["heads"], model["head_size"]) == (4, None)
    assert load(load(tiny).model_dump(mode="json", by_alias=True)) == load(tiny)


def test_defaults_that_are_said_change_no_hash(tiny: dict[str, Any]) -> None:
    plain = protocol(tiny).hash
    tiny["model"] |= {"norm": "rms", "gains": "none", "mlp_ratio": 4.0, "kv_group": 1}
    tiny["model"] |= {"positions": "rotary", "readout_init": "rule", "tied_embeddings": False}
    tiny["train"] |= {"z_loss": 0}
    assert protocol(tiny).hash == plain
    tiny["train"]["z_loss"] = 1e-4
    assert protocol(tiny).hash != plain
    tiny["train"]["z_loss"] = 0
    tiny["model"]["gains"] = "scalar"
    assert protocol(tiny).hash != plain
