"""The built-in multilayer perceptron of a spec, and what a protocol says of it."""

from __future__ import annotations

from typing import ClassVar, Literal

from mutransfer_cli.files.strict import Count, Natural, Strict

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

    Attributes:
        family: the multilayer perceptron, fed with samples.
        depth: number of hidden matrices, width x width; 0 leaves the input matrix and the readout.
        activation: after the input matrix and after each hidden one.
        norm: rms: RMSNorm without gain before each hidden matrix and before the readout.
        inputs, outputs: those of the data, unless said; then they must agree.
    """

    family: Literal["mlp"]
    depth: Natural = 1
    activation: Activation = "relu"
    norm: Norm = "none"
    inputs: Count | None = None
    outputs: Count | None = None

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

    EXPLAINED_BY: ClassVar[tuple[type, ...]] = (MLPSpec,)

    family: Literal["mlp"]
    depth: Natural
    activation: Activation
    norm: Norm
    inputs: Count
    outputs: Count

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
