"""Every causal LM of transformers at small sizes: planned or refused, and its slopes at init.

For each type: whether it is planned or with which sentence it is refused, and the slopes in width
of the RMS of its embedding's output, its blocks' outputs and its logits at init under muP, as their
largest deviation from the rule's. Types of several parts are refused as such.

    python -m benchmarks.model_census [TYPE ...]
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.hf_config import load_transformers
from tests.proxies.at_init import LOGITS, slopes, small_model

WIDTHS, SEEDS = (64, 128, 256, 512), 4
TOLERANCE = 0.1


@dataclass(frozen=True)
class Row:
    """The outcome of one type.

    Attributes:
        refused: the sentence; empty if it was planned.
        slopes: by part, the slope in width and that of the rule.
    """

    model_type: str
    refused: str
    slopes: Mapping[str, tuple[float, float]]
    seconds: float

    @property
    def worst(self) -> tuple[str, float]:
        """The part whose slope differs most from the rule's, and the difference."""
        found = {part: slope - rule for part, (slope, rule) in self.slopes.items()}
        part = max(found, key=lambda name: abs(found[name]))
        return part, found[part]

    @property
    def outcome(self) -> str:
        if self.refused:
            return "refused"
        return "within" if abs(self.worst[1]) <= TOLERANCE else "off"

    @property
    def line(self) -> str:
        """A line of the table."""
        cells = [self.model_type, self.outcome, "", "", f"{self.seconds:.1f}"]
        if self.refused:
            cells[3] = self.refused
        else:
            cells[2] = f"{self.slopes[LOGITS][0]:+.2f}"
            cells[3] = f"{self.worst[0]}: {self.worst[1]:+.3f}"
        return f"| {' | '.join(cells)} |"


def measured(model_type: str) -> Row:
    """Plan and measure a type at small sizes."""
    started = time.perf_counter()
    refused, found = "", {}
    try:
        found = slopes(small_model(model_type), WIDTHS, range(SEEDS))
    except InputError as error:
        refused = str(error)
    return Row(model_type, refused, found, time.perf_counter() - started)


def causal_types() -> list[str]:
    """The model types of transformers' causal LMs."""
    transformers = load_transformers()
    return list(transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def main() -> None:
    torch.set_num_threads(1)
    transformers = load_transformers()
    print(f"{datetime.now(UTC):%Y-%m-%d}, transformers {transformers.__version__}\n")
    print("| type | outcome | slope of logits | largest deviation, or the refusal | seconds |")
    print("|---|---|---|---|---|")
    outcomes: Counter[str] = Counter()
    for model_type in sys.argv[1:] or causal_types():
        row = measured(model_type)
        outcomes[row.outcome] += 1
        print(row.line, flush=True)
    print("\n" + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))


if __name__ == "__main__":
    main()
