"""What training a multilayer perceptron costs. A prediction, not a measurement."""

from __future__ import annotations

from mutransfer_cli.files.mlp import MLPProtocol
from mutransfer_cli.files.records import Protocol
from mutransfer_cli.train.cost import STATES, Cost


def mlp_cost(protocol: Protocol, width: int) -> Cost:
    """FLOPs a sample: 6 per weight, but 4 of the input matrix: data have no gradient.

    Activations a sample: about 3 values of the width a layer, 5 with norms, and inputs, targets,
    outputs and their gradients; twice the weights that a multiplier may stand before (measured on
    a CPU: whole peaks within 25 %).
    """
    model, train = protocol.model, protocol.train
    assert isinstance(model, MLPProtocol), "others have other formulas"
    first, last = model.inputs * width, model.outputs * width
    hidden = model.depth * width**2
    parameters = first + hidden + last
    per_sample = 6 * (hidden + last) + 4 * first
    layer_values = 5 if model.norm == "rms" else 3
    sample_values = layer_values * (model.depth + 1) * width + 2 * model.inputs + 4 * model.outputs
    value_bytes = 8 if train.precision == "fp64" else 4
    values = STATES * parameters + train.batch * sample_values + 2 * (first + last)
    return Cost(
        parameters=parameters,
        flops=float(per_sample * train.batch * train.steps),
        trial_memory=value_bytes * values,
        chunk_memory=0,
        chunks=1,
    )
