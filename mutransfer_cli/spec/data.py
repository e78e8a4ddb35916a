"""The `data` of a spec, and what a protocol says of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from mutransfer_cli.strict import Count, Natural, NonNegative, Number, Strict

MOST_VALUES = 1 << 31  # of generated samples
EvalFraction = Annotated[Number, Field(gt=0, lt=1)]
DtypeName = Literal["uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64"]


class StdlibData(Strict):
    """The text of Python's own standard library."""

    source: Literal["stdlib"]
    """Which data: stdlib."""
    eval_fraction: EvalFraction = 0.1
    """Share of the data that is the eval part, not trained on."""


class TextData(Strict):
    """A file, all visible files of a folder, or those of a pattern, sorted by path."""

    source: Literal["text"]
    """Which data: text."""
    path: str
    """What is read; a relative one counts from the spec."""
    tokenizer: str | None = None
    """A tokenizer.json; without it the text is read as bytes."""
    column: str | None = None
    """Of Parquet files; `text` where it is not said."""
    eval_fraction: EvalFraction = 0.1
    """Share of the data that is the eval part, not trained on."""

    @model_validator(mode="after")
    def bytes_have_no_column(self) -> TextData:
        if self.column is not None and self.tokenizer is None:
            raise ValueError("column: Parquet is read with a tokenizer only; give tokenizer too")
        return self


class TokenData(Strict):
    """Files of tokens, recognised by their content."""

    source: Literal["tokens"]
    """Which data: tokens."""
    path: str
    """A file, a folder of shards, or a pattern such as train_*.bin; a relative one counts from the
    spec."""
    vocab: Count
    """Of the model. No token file says it; the largest token does not either, and would change with
    every shard."""
    dtype: DtypeName | None = None
    """Of files that do not say it."""
    column: str | None = None
    """Of Parquet files; `input_ids` where it is not said."""
    eval_fraction: EvalFraction = 0.1
    """Share of the data that is the eval part, not trained on."""

    @model_validator(mode="before")
    @classmethod
    def vocab_is_said(cls, data: Any) -> Any:
        if isinstance(data, dict) and "vocab" not in data:
            raise ValueError(
                "vocab is missing: no token file says it; give that of the tokenizer, or of the "
                "model to be tuned, such as 50304"
            )
        return data


class MarkovData(Strict):
    """Synthetic tokens, each drawn given the one before it; their entropy rate is known."""

    source: Literal["markov"]
    """Which data: markov."""
    vocab: Annotated[Count, Field(ge=2, le=1024)] = 64
    """How many different tokens there are."""
    length: Count = 1 << 20
    """How many tokens are drawn, train and eval part together."""
    seed: Natural = 0
    """Of the transition probabilities and of the tokens."""
    eval_fraction: EvalFraction = 0.1
    """Share of the data that is the eval part, not trained on."""


class LinearTeacherData(Strict):
    """Synthetic samples for an mlp: y = W x + noise, with a fixed matrix W.

    x ~ N(0, I) and W_ij ~ N(0, 1 / inputs), so that W x has variance 1 in every output. The loss is
    the squared error, mean over samples and outputs; no predictor stays below noise^2. A run sees
    no sample twice.

    They are generated, so that their keys identify them: this is their part of a protocol too.
    """

    source: Literal["linear_teacher"]
    """Which data: linear_teacher."""
    inputs: Count = 64
    """Sizes of x and of y."""
    outputs: Count = 16
    """Sizes of x and of y."""
    samples: Count = 1 << 17
    """How many are drawn, train and eval part together."""
    noise: NonNegative = 0.1
    """Std of the label noise."""
    seed: Natural = 0
    """Of W and of the samples. That of a trial decides only their order."""
    eval_fraction: EvalFraction = 0.1
    """Share of the samples that is the eval part, not trained on."""

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
        """None: nothing was read."""


DataSpec = Annotated[
    StdlibData | TextData | TokenData | MarkovData | LinearTeacherData,
    Field(discriminator="source"),
]


class DataProtocol(Strict):
    """What was read, not where it lay; what does not apply is left out."""

    source: str
    """As in the spec."""
    sha256: str
    """Of the text, or of the tokens that are trained on; hex."""
    bytes: Count
    """Their size."""
    eval_fraction: Number
    """Share of the data that is the eval part, not trained on."""
    kind: str | None = None
    """What the files were recognised as."""
    tokens: Count | None = None
    """How many there are; absent for bytes."""
    dtype: str | None = None
    """The integers that `sha256` was taken of; absent for bytes."""
    tokenizer_sha256: str | None = None
    """Of the tokenizer's file; hex."""

    @model_serializer(mode="wrap")
    def without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if value is not None}


def is_generated(data: Any) -> str:
    source = data.get("source") if isinstance(data, dict) else data.source
    return "generated" if source == "linear_teacher" else "read"


AnyData = Annotated[
    Annotated[DataProtocol, Tag("read")] | Annotated[LinearTeacherData, Tag("generated")],
    Discriminator(is_generated),
]
