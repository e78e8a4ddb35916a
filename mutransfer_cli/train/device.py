"""The device of a run."""

from __future__ import annotations

import os
import platform
from typing import Literal

import torch

from mutransfer_cli.errors import InputError
from mutransfer_cli.torch_private import cpu_has_bf16

DeviceName = Literal["auto", "cpu", "cuda"]


def device_name(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{device.type} {name}"


def choose_device(name: DeviceName, precision: str, deterministic: bool = False) -> torch.device:
    """The device of a run, with its matrix precision set.

    Raises:
        InputError: CUDA asked for and absent, or tf32 asked for without CUDA.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError(
            "--device cuda: torch sees no CUDA device; use --device cpu, or install a CUDA build "
            "of torch and check nvidia-smi"
        )
    device = torch.device("cuda" if available and name != "cpu" else "cpu")
    if precision == "tf32" and device.type == "cpu":
        raise InputError("train.precision: tf32 exists on CUDA only; use fp32 on a CPU")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        if deterministic:
            make_deterministic()
    return device


def make_deterministic() -> None:
    """Same bits in every run on one kind of GPU; on a CPU that is so in any case."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first matrix product
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.enable_cudnn_sdp(False)  # its backward is not


def slow_precision(device: torch.device, precision: str) -> str:
    """A sentence where the device only emulates the precision; else empty."""
    if precision == "bf16" and device.type == "cpu" and not cpu_has_bf16():
        return (
            "train.precision: this CPU has no bf16 units, and products in bf16 take 36 to 63 times "
            "as long as in fp32; use fp32"
        )
    return ""
