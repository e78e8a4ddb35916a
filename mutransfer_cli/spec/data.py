"""The `data` section of a spec, and the record of the data in a protocol."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from mutransfer_cli.spec.model import FunctionSpec
from mutransfer_cli.strict import Count, Natural, NonNegative, Number, Share, Sparse, Strict

PARQUET_MAGIC = b"PAR1"  # the first bytes of a file
MOST_VALUES = 1 << 31  # generated numbers that are held in memory
DtypeName = Literal["uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64"]


class _Evaluated(Strict):
    """Data with an eval part."""

    eval_fraction: Share = 0.1
    """Share of the data that is held out for evaluation."""


class StdlibData(_Evaluated):
    """The text of Python's own standard library."""

    source: Literal["stdlib"]
    """The kind of data: stdlib."""


class TextData(_Evaluated):
    """Text of a file, of all visible files in a folder, or of a pattern's files, sorted by path."""

    source: Literal["text"]
    """The kind of data: text."""
    path: str = Field(examples=["corpus.txt"])
    """File, folder or pattern; a relative path counts from the spec."""
    tokenizer: str | None = None
    """A tokenizer.json; without it the text is read as bytes."""
    column: str | None = None
    """Column of Parquet files; `text` by default."""

    @model_validator(mode="after")
    def bytes_have_no_column(self) -> TextData:
        if self.column is not None and self.tokenizer is None:
            raise ValueError("column: Parquet is read with a tokenizer only; give tokenizer too")
        return self


class TokenData(_Evaluated):
    """Files of tokens, recognised by their content."""

    source: Literal["tokens"]
    """The kind of data: tokens."""
    path: str = Field(examples=["train_*.bin"])
    """A file, a folder of shards, or a pattern; a relative path counts from the spec."""
    vocab: Count = Field(examples=[50304])
    """Vocabulary size of the model. No token file states it, and the largest token would change
    with every shard."""
    dtype: DtypeName | None = None
    """Integer type of files that do not state it."""
    column: str | None = None
    """Column of Parquet files; `input_ids` by default."""

    @model_validator(mode="before")
    @classmethod
    def vocab_is_given(cls, data: Any) -> Any:
        if isinstance(data, dict) and "vocab" not in data:
            raise ValueError(
                "vocab is missing: no token file states it; give that of the tokenizer, or of the "
                "model to be tuned, such as 50304"
            )
        return data


class MarkovData(_Evaluated):
    """Synthetic tokens, each drawn given the one before it, with a known entropy rate."""

    source: Literal["markov"]
    """The kind of data: markov."""
    vocab: Annotated[Count, Field(ge=2, le=1024)] = 64
    """Number of different tokens."""
    length: Count = 1 << 20
    """Number of tokens, train and eval part together."""
    seed: Natural = 0
    """Seed of the transition probabilities and of the tokens."""


class LinearTeacherData(Strict):
    """Synthetic samples for an mlp: y = W x + noise, with a fixed matrix W.

    x ~ N(0, I) and W_ij ~ N(0, 1 / inputs), so that W x has variance 1 in every output. The loss is
    the squared error, mean over samples and outputs; no predictor stays below noise^2. A run sees
    no sample twice.

    The keys identify the generated data, so a protocol records them as they are.
    """

    source: Literal["linear_teacher"]
    """The kind of data: linear_teacher."""
    inputs: Count = 64
    """Size of x."""
    outputs: Count = 16
    """Size of y."""
    samples: Count = 1 << 17
    """Number of samples, train and eval part together."""
    noise: NonNegative = 0.1
    """Standard deviation of the label noise."""
    seed: Natural = 0
    """Seed of W and of the samples. The seed of a trial decides only their order."""
    eval_fraction: Share = 0.1
    """Share of the samples that is held out for evaluation."""

    @model_validator(mode="after")
    def fit_into_memory(self) -> LinearTeacherData:
        values = self.samples * (self.inputs + self.outputs)
        if values > MOST_VALUES:
            raise ValueError(
                f"samples: {self.samples} of {self.inputs} + {self.outputs} values are held in "
                f"memory, {4e-9 * values:.3g} GB; give fewer, at most {4e-9 * MOST_VALUES:.3g} GB"
            )
        return self

    @property
    def sha256(self) -> None:
        """None, because nothing was read."""


class OwnData(FunctionSpec, _Evaluated):
    """The user's own samples: a function that returns a Dataset or tensors."""


def _named_or_own(data: Any) -> str:
    keys = data if isinstance(data, dict) else getattr(data, "__dict__", {})
    return "own" if "factory" in keys else "named"


NamedData = Annotated[
    StdlibData | TextData | TokenData | MarkovData | LinearTeacherData,
    Field(discriminator="source"),
]
DataSpec = Annotated[
    Annotated[NamedData, Tag("named")] | Annotated[OwnData, Tag("own")],
    Discriminator(_named_or_own),
]


class DataProtocol(Sparse):
    """Identifies data by their content, not their place; keys that do not apply are left out."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"kind", "tokens", "dtype", "tokenizer_sha256"})

    source: str
    """The kind of data, as in the spec."""
    sha256: str
    """Hash of the text, or of the tokens that are trained on; hex."""
    bytes: Count
    """Size of what was hashed, in bytes."""
    eval_fraction: Number
    """Share of the data that is held out for evaluation."""
    kind: str | None = None
    """File format that was recognised."""
    tokens: Count | None = None
    """Number of tokens; absent for bytes."""
    dtype: str | None = None
    """Integer type of the hashed tokens; absent for bytes."""
    tokenizer_sha256: str | None = None
    """Hash of the tokenizer's file; hex."""


class OwnDataProtocol(FunctionSpec):
    """Identifies the user's own samples by the function and by what it returned."""

    sha256: str
    """Hash of the samples, of a Dataset of its first and last few; hex."""
    samples: Count
    """Number of samples to train on."""
    eval_samples: Count
    """Number of samples that are held out for evaluation."""


def _origin(data: Any) -> str:
    if _named_or_own(data) == "own":
        return "own"
    source = data.get("source") if isinstance(data, dict) else data.source
    return "generated" if source == "linear_teacher" else "read"


AnyData = Annotated[
    Annotated[DataProtocol, Tag("read")]
    | Annotated[LinearTeacherData, Tag("generated")]
    | Annotated[OwnDataProtocol, Tag("own")],
    Discriminator(_origin),
]
