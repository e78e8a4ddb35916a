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
    """The text of Python's own standard library.

    Attributes:
        source: which data: stdlib.
        eval_fraction: share of the data that is the eval part, not trained on.
    """

    source: Literal["stdlib"]
    eval_fraction: EvalFraction = 0.1


class TextData(Strict):
    """A file, all files of a folder (hidden ones left out) or those of a pattern, sorted by path.

    Attributes:
        source: which data: text.
        path: what is read; a relative one counts from the spec.
        tokenizer: a tokenizer.json; without it the text is read as bytes.
        column: of Parquet files; `text` where it is not said.
        eval_fraction: share of the data that is the eval part, not trained on.
    """

    source: Literal["text"]
    path: str
    tokenizer: str | None = None
    column: str | None = None
    eval_fraction: EvalFraction = 0.1

    @model_validator(mode="after")
    def bytes_have_no_column(self) -> TextData:
        if self.column is not None and self.tokenizer is None:
            raise ValueError("column: Parquet is read with a tokenizer only; give tokenizer too")
        return self


class TokenData(Strict):
    """Files of tokens, recognised by their content.

    Attributes:
        source: which data: tokens.
        path: a file, a folder of shards, or a pattern such as train_*.bin; a relative one counts
            from the spec.
        vocab: of the model. No token file says it; the largest token does not either, and would
            change with every shard.
        dtype: of files that do not say it.
        column: of Parquet files; `input_ids` where it is not said.
        eval_fraction: share of the data that is the eval part, not trained on.
    """

    source: Literal["tokens"]
    path: str
    vocab: Count
    dtype: DtypeName | None = None
    column: str | None = None
    eval_fraction: EvalFraction = 0.1

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
    """Synthetic tokens, each drawn given the one before it; their entropy rate is known.

    Attributes:
        source: which data: markov.
        vocab: how many different tokens there are.
        length: how many tokens are drawn, train and eval part together.
        seed: of the transition probabilities and of the tokens.
        eval_fraction: share of the data that is the eval part, not trained on.
    """

    source: Literal["markov"]
    vocab: Annotated[Count, Field(ge=2, le=1024)] = 64
    length: Count = 1 << 20
    seed: Natural = 0
    eval_fraction: EvalFraction = 0.1


class LinearTeacherData(Strict):
    """Synthetic samples for an mlp: y = W x + noise, with a fixed matrix W.

    x ~ N(0, I) and W_ij ~ N(0, 1 / inputs), so that W x has variance 1 in every output. The loss is
    the squared error, mean over samples and outputs; no predictor stays below noise^2. A run sees
    no sample twice.

    They are generated, so that their keys identify them: this is their part of a protocol too.

    Attributes:
        source: which data: linear_teacher.
        inputs, outputs: sizes of x and of y.
        samples: how many are drawn, train and eval part together.
        noise: std of the label noise.
        seed: of W and of the samples. That of a trial decides only their order.
        eval_fraction: share of the samples that is the eval part, not trained on.
    """

    source: Literal["linear_teacher"]
    inputs: Count = 64
    outputs: Count = 16
    samples: Count = 1 << 17
    noise: NonNegative = 0.1
    seed: Natural = 0
    eval_fraction: EvalFraction = 0.1

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
    """What was read, not where it lay; what does not apply is left out.

    Attributes:
        source: as in the spec.
        sha256: of the text, or of the tokens that are trained on; hex.
        bytes: their size.
        eval_fraction: share of the data that is the eval part, not trained on.
        kind: what the files were recognised as.
        tokens: how many there are; absent for bytes.
        dtype: the integers that `sha256` was taken of; absent for bytes.
        tokenizer_sha256: of the tokenizer's file; hex.
    """

    source: str
    sha256: str
    bytes: Count
    eval_fraction: Number
    kind: str | None = None
    tokens: Count | None = None
    dtype: str | None = None
    tokenizer_sha256: str | None = None

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
