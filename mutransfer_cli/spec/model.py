"""The built-in multilayer perceptron of a spec, and what a protocol says of it.

MERGED:
Which model is swept: a built-in one, one's own, or a Hugging Face config."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, JsonValue, Tag

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.spec.decoder import AttentionScale, ModelProtocol, TransformerSpec
from mutransfer_cli.spec.yaml_io import Unquoted, read_text
from mutransfer_cli.strict import Count, Natural, Strict, nearest, parse_number

Activation = Literal["relu", "gelu", "tanh"]
Norm = Literal["none", "rms"]


class MLPSpec(Strict):
    """The built-in multilayer perceptron: no biases; its hidden width is swept.

    The number of outputs is chosen because it matters: the per_layer rates of `standard` assume
    that the readout is not aligned with what changes below it, and with fewer outputs than the
    width it is, the more the fewer. With two of them the best rate falls as width grows; under mup
    it stays (measured at widths 32 to 128).

    With `norm: rms`, AdamW and weight decay it is a minimal setting for the steady state of Fan et
    al. 2025 (arXiv 2510.15262): the top singular value of a width x width matrix, whose scale the
    norms take out of the forward pass, under each rule of weight decay. Theirs is a two-layer
    feed-forward net (reported second-hand, details unknown); this net and its data are ours.
    """

    family: Literal["mlp"]
    """The multilayer perceptron, fed with samples."""
    depth: Natural = 1
    """Number of hidden matrices, width x width; 0 leaves the input matrix and the readout."""
    activation: Activation = "relu"
    """After the input matrix and after each hidden one."""
    norm: Norm = "none"
    """Rms: RMSNorm without gain before each hidden matrix and before the readout."""
    inputs: Count | None = None
    """Those of the data, unless said; then they must agree."""
    outputs: Count | None = None
    """Those of the data, unless said; then they must agree."""

    def refuse_sizes(self, inputs: int, outputs: int) -> None:
        """
        Raises:
            ValueError: said sizes are not those of the data.
        """
        for key, said, found in (
            ("inputs", self.inputs, inputs),
            ("outputs", self.outputs, outputs),
        ):
            if said is not None and said != found:
                raise ValueError(
                    f"model.{key}: found {said}, and the data have {found}; say it once, in "
                    f"data.{key}"
                )


class MLPProtocol(Strict):
    """The multilayer perceptron as trained."""

    family: Literal["mlp"]
    """The multilayer perceptron, fed with samples."""
    depth: Natural
    """Number of hidden matrices, width x width; 0 leaves the input matrix and the readout."""
    activation: Activation
    """After the input matrix and after each hidden one."""
    norm: Norm
    """Rms: RMSNorm without gain before each hidden matrix and before the readout."""
    inputs: Count
    """Those of the data, unless said; then they must agree."""
    outputs: Count
    """Those of the data, unless said; then they must agree."""

    @property
    def vocab(self) -> None:
        """None, as all that a model of tokens has."""

    @property
    def options(self) -> dict[str, str | int | bool]:
        return self.model_dump(exclude={"depth"})

    @property
    def head_size(self) -> None: ...

    @property
    def attention_scale(self) -> None: ...


def refuse_bad_patterns(roles: dict[str, Role]) -> dict[str, Role]:
    for pattern in roles:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression ({error})") from error
    return roles


def is_factory(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name) is not None


def refuse_other_names(factory: str) -> str:
    if not is_factory(factory):
        raise ValueError(f"expected package.module:function, found {factory!r}")
    return factory


def with_numbers(value: Any) -> Any:
    """Numbers as people write them become numbers, at any depth; 2^16 a whole one."""
    if isinstance(value, dict):
        return {key: with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_numbers(item) for item in value]
    number = parse_number(value) if isinstance(value, Unquoted) else value
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"expected a finite number, found {value!r}")
    whole = isinstance(value, Unquoted) and "^" in value and number.is_integer()
    return int(number) if whole else number


Roles = Annotated[dict[str, Role], AfterValidator(refuse_bad_patterns)]
FactoryName = Annotated[str, AfterValidator(refuse_other_names)]


class FactorySpec(Strict):
    """One's own model: a function from width to a module."""

    factory: FactoryName
    """`package.module:function`; its import runs the user's code."""
    args: Annotated[dict[str, JsonValue], BeforeValidator(with_numbers)] = Field(
        default_factory=dict
    )
    """Further arguments of the function; 3e-4 and 2^16 are numbers, unless quoted."""
    roles: Roles = Field(default_factory=dict)
    """Roles of parameters by a regular expression of the whole name, where they are not those that
    the tool would find."""


class HfSpec(Strict):
    """A Hugging Face config whose width is scaled."""

    hf: str
    """Its config.json; a relative path counts from the spec."""
    untie: bool = False
    """Whether embedding and readout of a tied config are made two."""
    roles: Roles = Field(default_factory=dict)
    """Roles of parameters by a regular expression of the whole name, where they are not those that
    the tool would find."""

    def config(self, folder: Path) -> dict[str, Any]:
        """
        Args:
            folder: the spec's.

        Raises:
            InputError: not a config of a model type.
        """
        path = folder / Path(self.hf).expanduser()
        try:
            found = json.loads(read_text(path))
        except ValueError as error:
            raise InputError(f"{path}: not JSON ({error}); give a config.json") from error
        if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
            raise InputError(f"{path}: has no model_type; give a config.json of a causal LM")
        return found


def kind_of(model: Any) -> str:
    """Which of the four; the tags are no keys, so that messages show keys only."""
    keys = model if isinstance(model, dict) else getattr(model, "__dict__", {})
    if keys.get("family") == "mlp":
        return "perceptron"
    return "own" if "factory" in keys else "config" if "hf" in keys else "built-in"


FAMILIES = ("transformer", "mlp")


def known_family(model: Any) -> Any:
    if isinstance(model, dict) and model.get("family", "transformer") not in FAMILIES:
        family = str(model["family"])
        raise ValueError(f"family: unknown {family!r}{nearest(family, FAMILIES)}")
    return model


ModelSpec = Annotated[
    Annotated[TransformerSpec, Tag("built-in")]
    | Annotated[MLPSpec, Tag("perceptron")]
    | Annotated[FactorySpec, Tag("own")]
    | Annotated[HfSpec, Tag("config")],
    Discriminator(kind_of),
    BeforeValidator(known_family),
]


class FactoryProtocol(Strict):
    """One's own model; what the function does is known to it alone."""

    factory: FactoryName
    """`package.module:function`; its import runs the user's code."""
    args: dict[str, JsonValue]
    """Further arguments of the function; 3e-4 and 2^16 are numbers, unless quoted."""
    roles: Roles
    """Roles of parameters by a regular expression of the whole name, where they are not those that
    the tool would find."""
    vocab: Count
    """Of the data; the model's may be larger."""

    @property
    def depth(self) -> int | None:
        return None

    @property
    def head_size(self) -> int | None:
        return None

    @property
    def attention_scale(self) -> AttentionScale | None:
        return None


# their attention divides q.k by sqrt(d_head), whatever the width
KNOWN_TYPES = ("gemma", "gpt2", "llama", "mistral", "qwen3")


class HfProtocol(Strict):
    """A Hugging Face config as trained."""

    hf: dict[str, JsonValue]
    """The config, as in its file."""
    untie: bool
    """Whether embedding and readout of a tied config are made two."""
    roles: Roles
    """Roles of parameters by a regular expression of the whole name, where they are not those that
    the tool would find."""
    vocab: Count
    """Of the data, and of the model."""

    @property
    def model_type(self) -> str:
        return str(self.hf["model_type"])

    @property
    def width(self) -> int | None:
        return self._count("hidden_size", "n_embd")

    @property
    def depth(self) -> int | None:
        return self._count("num_hidden_layers", "n_layer")

    @property
    def head_size(self) -> int | None:
        hidden, heads = self.width, self._count("num_attention_heads", "n_head")
        return self._count("head_dim") or (hidden // heads if hidden and heads else None)

    @property
    def attention_scale(self) -> AttentionScale | None:
        return "1/sqrt(d_head)" if self.model_type in KNOWN_TYPES else None

    def _count(self, *keys: str) -> int | None:
        found = next((self.hf[key] for key in keys if key in self.hf), None)
        return found if isinstance(found, int) and found > 0 else None


AnyModel = Annotated[
    Annotated[ModelProtocol, Tag("built-in")]
    | Annotated[MLPProtocol, Tag("perceptron")]
    | Annotated[FactoryProtocol, Tag("own")]
    | Annotated[HfProtocol, Tag("config")],
    Discriminator(kind_of),
]
