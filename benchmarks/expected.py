"""Expected figures of fused sweeps: predictions of a roofline model, and requirements.

The predictions come from a roofline MODEL of an H200 at depth 4, heads of 64, context 256, bf16
and 32 trials; none of them was measured. The model adds the time of matrix products (790 TFLOP/s
in waves of tiles, and 2 to 3 us per kernel) and of memory traffic (4.3 TB/s, or 6 TB/s where a
trial's activations stay in the L2 cache); a step of one trial is 157 kernels. Its error is about
25%.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.cases import Case

EAGER_MS = 4.5  # assumed time of a trial-step: that to launch about a thousand kernels
TRIALS = 32

# (tokens per step, vocab, width): ms per trial-step, one at a time and fused
PREDICTED_MS = {
    (1024, 256, 128): (0.53, 0.05),
    (1024, 256, 256): (0.59, 0.12),
    (1024, 256, 512): (0.74, 0.33),
    (1024, 256, 1024): (1.44, 1.06),
    (4096, 256, 128): (0.60, 0.17),
    (4096, 256, 256): (0.77, 0.35),
    (4096, 256, 512): (1.34, 0.93),
    (4096, 256, 1024): (3.21, 2.80),
    (1024, 32768, 128): (0.69, 0.25),
    (1024, 32768, 256): (0.87, 0.40),
    (1024, 32768, 512): (1.26, 0.83),
    (1024, 32768, 1024): (2.41, 2.00),
    (4096, 32768, 128): (1.09, 0.69),
    (4096, 32768, 256): (1.44, 1.02),
    (4096, 32768, 512): (2.43, 2.00),
    (4096, 32768, 1024): (5.12, 4.66),
}
# required ratio for (tokens per step, vocab), by width
Bars = dict[tuple[int, int], dict[int, float]]
REQUIRED: dict[str, Bars] = {
    "d/a": {
        (1024, 256): {128: 6.0, 256: 3.0, 512: 1.7, 1024: 1.1},
        (4096, 256): {128: 2.5, 256: 1.6, 512: 1.2, 1024: 1.0},
        (4096, 32768): {128: 1.0, 256: 1.0, 512: 1.0, 1024: 1.0},
    },
    "d/b": {(4096, 256): {128: 15.0, 256: 8.0, 512: 3.0, 1024: 1.3}},
    "d/c": {(4096, 256): {128: 2.0}},
    "share of peak": {
        (4096, 256): {512: 0.35, 1024: 0.40},
        (4096, 32768): {512: 0.35, 1024: 0.40},
    },
}
REQUIRED_ON_CPU: dict[str, Bars] = {"d/b": {(256, 256): {32: 1.7, 256: 0.95}}}
CPU_TRIALS = 8


@dataclass(frozen=True)
class Expected:
    """Prediction and requirement for one figure; None where there is none."""

    predicted: float | None = None
    required: float | None = None


def expected(case: Case, figure: str) -> Expected:
    """Expected figures (d/a, d/b, d/c, share of peak), defined for the sizes of the tables only."""
    sizes = (case.batch * case.context, case.vocab)
    shape = (case.depth, case.head_size, case.trials)
    if case.device_name == "cpu":
        if shape != (2, 16, CPU_TRIALS):
            return Expected()
        return Expected(None, REQUIRED_ON_CPU.get(figure, {}).get(sizes, {}).get(case.width))
    if shape != (4, 64, TRIALS) or case.context != 256:
        return Expected()
    required = REQUIRED[figure].get(sizes, {}).get(case.width)
    predicted = PREDICTED_MS.get((*sizes, case.width))
    if predicted is None:
        return Expected(None, required)
    solo, fused = predicted
    ratios = {"d/a": solo / fused, "d/b": max(EAGER_MS, solo) / fused}
    return Expected(ratios.get(figure), required)
