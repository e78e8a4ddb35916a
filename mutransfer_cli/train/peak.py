"""What the device's matrix units give at best: the measure of every training speed."""

from __future__ import annotations

import time
from functools import cache

import torch

DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp64": torch.float64,
}
REPETITIONS = 3
LONG = 0.5  # seconds: a product that takes so long needs neither warm-up nor repetition


@cache
def matrix_peak(device: torch.device, precision: str) -> float:
    """FLOP/s of one large square matrix product in a run's precision, the best of a few."""
    size = 8192 if device.type == "cuda" else 1024
    matrix = torch.randn(size, size, device=device, dtype=DTYPES[precision])
    fastest = float("inf")
    for _ in range(REPETITIONS + 1):  # the first is to warm up
        started = time.perf_counter()
        product = matrix @ matrix
        float(product[0, 0])  # waits for the device
        fastest = min(fastest, time.perf_counter() - started)
        if fastest > LONG:
            break
    return 2 * size**3 / fastest
