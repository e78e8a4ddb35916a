"""Options that say who trains: worker processes of this machine, or tasks on a Ray cluster."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from mutransfer_cli.errors import InputError


class EngineName(StrEnum):
    local = "local"
    ray = "ray"


Engine = Annotated[
    EngineName,
    typer.Option(help="Who trains: processes of this machine, or the workers of a Ray cluster."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Processes that train. Default: one for each GPU, or without any for each CPU core.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Ray cluster to join: auto or HOST:PORT. Default: Ray is started on this machine.",
    ),
]
NumGpus = Annotated[
    float | None,
    typer.Option(metavar="FLOAT", help="GPUs of each Ray task, at most 1. Default: 1."),
]
WorkerTimeout = Annotated[
    float,
    typer.Option(metavar="SECONDS", help="Give up on a worker after this long without a message."),
]


@dataclass(frozen=True)
class RayOptions:
    """The user's options for the cluster, with defaults."""

    address: str | None
    num_gpus: float


def ray_options(
    engine: EngineName, workers: int | None, address: str | None, num_gpus: float | None
) -> RayOptions | None:
    """None for the local engine.

    Raises:
        InputError: options of the one engine with the other, out of range, or Ray not installed.
    """
    if engine != EngineName.ray:
        for name, value in {"address": address, "num-gpus": num_gpus}.items():
            if value is not None:
                raise InputError(f"--{name}: is for --engine ray; add that, or leave it out")
        return None
    if workers is not None:
        raise InputError("--workers: is for --engine local; Ray starts its own")
    if num_gpus is not None and not 0 < num_gpus <= 1:
        raise InputError(f"--num-gpus {num_gpus:g}: expected more than 0 and at most 1")
    if importlib.util.find_spec("ray") is None:
        raise InputError("--engine ray: ray is not installed; pip install 'mutransfer-cli[ray]'")
    return RayOptions(address, num_gpus or 1.0)


def refuse_timeout(seconds: float) -> None:
    """
    Raises:
        InputError: no time at all.
    """
    if not seconds > 0:
        raise InputError(f"--worker-timeout {seconds:g}: expected more than 0")
