"""The `model` section of a spec and of a protocol: built-in, the user's own, or Hugging Face's."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, JsonValue, Tag

from mutransfer_cli.errors import InputError
from mutransfer_cli.explain import unknown
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.spec.decoder import AttentionScale, ModelProtocol, TransformerSpec
from mutransfer_cli.spec.own_factors import factors_of, neutral_values
from mutransfer_cli.spec.yaml_io import read_text
from mutransfer_cli.spec.yaml_loader import Unquoted
from mutransfer_cli.strict import Count, Natural, Number, Sparse, Strict, parse_number

Activation = Literal["relu", "gelu", "tanh"]
FAMILIES = ("transformer", "mlp")
# model types whose attention divides q.k by sqrt(d_head), whatever the width
KNOWN_TYPES = ("gemma", "gpt2", "llama", "mistral", "qwen3")


class MLPSpec(Strict):
    """The built-in multilayer perceptron without biases, whose hidden width is swept.

    Choose the number of outputs with care: the per_layer rates of `standard` assume that the
    readout is not aligned with the changes below it. It is aligned if there are fewer outputs than
    the width, the more so the fewer there are: with two, the best rate falls as width grows, under
    mup it does not (measured at widths 32 to 128).

    With `norm: rms`, AdamW and weight decay it is a minimal setting for the steady state of Fan et
    al. 2025 (arXiv 2510.15262): the top singular value of a width x width matrix, whose scale the
    norms remove from the forward pass, under each rule of weight decay. Their net has two
    feed-forward layers (reported second-hand, details unknown); this net and its data differ.
    """

    family: Literal["mlp"]
    """The kind of model: mlp, a multilayer perceptron that is trained on samples."""
    depth: Natural = 1
    """Number of hidden matrices, width x width; 0 leaves the input matrix and the readout."""
    activation: Activation = "relu"
    """Function after the input matrix and after each hidden one."""
    norm: Literal["none", "rms"] = "none"
    """rms: RMSNorm without gain before each hidden matrix and before the readout."""
    inputs: Count | None = None
    """Size of a sample's input, by default that of the data."""
    outputs: Count | None = None
    """Size of a sample's output, by default that of the data."""

    def refuse_sizes(self, inputs: int, outputs: int) -> None:
        """Raise a ValueError for sizes that are not those of the data."""
        for key, size in (("inputs", inputs), ("outputs", outputs)):
            given = getattr(self, key)
            if given not in (None, size):
                raise ValueError(
                    f"model.{key}: found {given}, and the data have {size}; give it once, in "
                    f"data.{key}"
                )


class MLPProtocol(MLPSpec):
    """The multilayer perceptron as trained."""

    vocab: ClassVar[None] = None
    head_size: ClassVar[None] = None
    attention_scale: ClassVar[None] = None

    inputs: Count
    """Size of a sample's input."""
    outputs: Count
    """Size of a sample's output."""

    @property
    def options(self) -> dict[str, str | int | bool]:
        """All options but the depth."""
        return self.model_dump(exclude={"depth"})


def _refuse_bad_patterns(by_pattern: dict[str, Any]) -> dict[str, Any]:
    for pattern in by_pattern:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression ({error})") from error
    return by_pattern


def is_factory(name: str) -> bool:
    """Whether a name has the form package.module:function."""
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name) is not None


def _refuse_other_names(factory: str) -> str:
    if not is_factory(factory):
        raise ValueError(f"expected package.module:function, found {factory!r}")
    return factory


def _with_numbers(value: Any) -> Any:
    """Convert unquoted texts such as 3e-4 to numbers, at any depth; 2^16 to a whole one."""
    if isinstance(value, dict):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    number = parse_number(value) if isinstance(value, Unquoted) else value
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"expected a finite number, found {value!r}")
    whole = isinstance(value, Unquoted) and "^" in value and number.is_integer()
    return int(number) if whole else number


Roles = Annotated[dict[str, Role], AfterValidator(_refuse_bad_patterns)]
Powers = Annotated[dict[str, Number], AfterValidator(_refuse_bad_patterns)]
FactoryName = Annotated[str, AfterValidator(_refuse_other_names)]


class FunctionSpec(Strict):
    """A function of the user's."""

    factory: FactoryName = Field(examples=["my_code:build"])
    """The function, `package.module:function`; its import runs the user's code."""
    args: Annotated[dict[str, JsonValue], BeforeValidator(_with_numbers)] = Field(
        default_factory=dict
    )
    """Further arguments of the function; 3e-4 and 2^16 are numbers unless they are quoted."""


class FactorySpec(FunctionSpec):
    """A user's own model: a function from width to a module."""

    roles: Roles = Field(default_factory=dict)
    """Roles of parameters, by a regular expression of the whole name, that replace those found by
    the tool."""
    own_multipliers: Powers = Field(default_factory=dict)
    """Powers of width by which the model's own code multiplies parameters, by a regular expression
    of the whole name; they replace those measured by the tool."""


class FactoryProtocol(FactorySpec, Sparse):
    """A user's own model as trained; only the function knows its sizes."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"own_multipliers", "vocab"})
    depth: ClassVar[int | None] = None
    head_size: ClassVar[int | None] = None
    attention_scale: ClassVar[AttentionScale | None] = None

    vocab: Count | None = None
    """Vocabulary size of the data; the model's may be larger; absent for samples."""


class HfSizes(Sparse):
    """Sizes in which the proxies of a Hugging Face config differ from it.

    They make small proxies of models with large heads or many layers: widths are multiples of
    head_size * kv_group.
    """

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"head_size", "depth", "kv_group"})

    head_size: Count | None = None
    """d_head in place of the config's; as many heads as fill the width."""
    depth: Count | None = None
    """Number of layers in place of the config's; lists by layer are cut or repeated."""
    kv_group: Count | None = None
    """Query heads per key-value head in place of the config's."""

    def sizes(self) -> HfSizes:
        """The sizes alone."""
        return HfSizes(**{key: getattr(self, key) for key in HfSizes.model_fields})


class HfSpec(HfSizes):
    """A Hugging Face config whose width is scaled."""

    OPTIONAL: ClassVar[frozenset[str]] = HfSizes.OPTIONAL | {"own_multipliers"}

    hf: str = Field(examples=["config.json"])
    """Path of the config.json; a relative path counts from the spec."""
    untie: bool = False
    """Whether to give a tied config separate weights for embedding and readout."""
    roles: Roles = Field(default_factory=dict)
    """Roles of parameters, by a regular expression of the whole name, that replace those found by
    the tool."""
    own_multipliers: Powers = Field(default_factory=dict)
    """Powers of width by which the model's own code multiplies parameters, by a regular expression
    of the whole name; they replace those measured by the tool."""

    def config(self, folder: Path) -> dict[str, Any]:
        """Read the config; a relative path counts from `folder`.

        Raises:
            InputError: the file is not JSON or names no model type.
        """
        path = folder / Path(self.hf).expanduser()
        try:
            found = json.loads(read_text(path))
        except ValueError as error:
            raise InputError(f"{path}: not JSON ({error}); give a config.json") from error
        if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
            raise InputError(f"{path}: has no model_type; give a config.json of a causal LM")
        return found


class HfProtocol(Sparse):
    """A Hugging Face config as trained."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"own_multipliers", "sizes"})

    hf: dict[str, JsonValue]
    """The config, as in its file."""
    untie: bool
    """Whether a tied config was given separate weights for embedding and readout."""
    roles: Roles
    """Roles of parameters, by a regular expression of the whole name, that replace those found by
    the tool."""
    own_multipliers: Powers = Field(default_factory=dict)
    """Powers of width by which the model's own code multiplies parameters, by a regular expression
    of the whole name; they replace those measured by the tool."""
    vocab: Count
    """Vocabulary size of the data and of the model."""
    sizes: HfSizes = HfSizes()
    """Sizes in which it differs from the config at every width."""

    @property
    def model_type(self) -> str:
        """The config's model_type, such as llama."""
        return str(self.hf["model_type"])

    @property
    def width(self) -> int | None:
        """The hidden size, if the config has it."""
        return self._count("hidden_size", "n_embd")

    @property
    def depth(self) -> int | None:
        """The number of blocks, if it is known."""
        return self.sizes.depth or self.own_depth

    @property
    def own_depth(self) -> int | None:
        """The number of blocks in the config, if it has it."""
        return self._count("num_hidden_layers", "n_layer")

    @property
    def head_size(self) -> int | None:
        """d_head, if it is known."""
        return self.sizes.head_size or self.own_head_size

    @property
    def own_head_size(self) -> int | None:
        """d_head in the config, if it determines it."""
        hidden, heads = self.width, self._count("num_attention_heads", "n_head")
        return self._count("head_dim") or (hidden // heads if hidden and heads else None)

    @property
    def attention_scale(self) -> AttentionScale | None:
        """The factor on q.k, if it is known for the model type."""
        return "1/sqrt(d_head)" if self.model_type in KNOWN_TYPES else None

    @property
    def neutral_factors(self) -> dict[str, Any]:
        """The values of such fields at which its code does not scale it."""
        return neutral_values(self.width, self.own_depth, self.own_head_size)

    @property
    def own_factors(self) -> dict[str, Any]:
        """The fields by which the model's own code scales it, as far as the config names them."""
        return factors_of(self.hf, self.neutral_factors)

    def _count(self, *keys: str) -> int | None:
        found = next((self.hf[key] for key in keys if key in self.hf), None)
        return found if isinstance(found, int) and found > 0 else None


def _kind_of(model: Any) -> str:
    """The tag of a model in the unions below, never a key, so that messages show keys only."""
    keys = model if isinstance(model, dict) else getattr(model, "__dict__", {})
    if keys.get("family") == "mlp":
        return "perceptron"
    return "own" if "factory" in keys else "config" if "hf" in keys else "built-in"


def _known_family(model: Any) -> Any:
    if isinstance(model, dict) and model.get("family", "transformer") not in FAMILIES:
        raise ValueError(f"family: {unknown(model['family'], FAMILIES)}")
    return model


ModelSpec = Annotated[
    Annotated[TransformerSpec, Tag("built-in")]
    | Annotated[MLPSpec, Tag("perceptron")]
    | Annotated[FactorySpec, Tag("own")]
    | Annotated[HfSpec, Tag("config")],
    Discriminator(_kind_of),
    BeforeValidator(_known_family),
]
AnyModel = Annotated[
    Annotated[ModelProtocol, Tag("built-in")]
    | Annotated[MLPProtocol, Tag("perceptron")]
    | Annotated[FactoryProtocol, Tag("own")]
    | Annotated[HfProtocol, Tag("config")],
    Discriminator(_kind_of),
]
