"""Options of `--engine ray`."""

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
    EngineName, typer.Option(help="Who trains: this process, or the workers of a Ray cluster.")
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
    float | None,
    typer.Option(
        metavar="SECONDS", help="Silence after which a Ray worker is given up. Default: 600."
    ),
]


@dataclass(frozen=True)
class RayOptions:
    """What the user said of the cluster, with defaults."""

    address: str | None
    num_gpus: float
    worker_timeout: float


def ray_options(
    engine: EngineName, address: str | None, num_gpus: float | None, worker_timeout: float | None
) -> RayOptions | None:
    """None for the other engine.

    Raises:
        InputError: options of the one with the other, out of range, or Ray not installed.
    """
    given = {"address": address, "num-gpus": num_gpus, "worker-timeout": worker_timeout}
    if engine != EngineName.ray:
        for name, value in given.items():
            if value is not None:
                raise InputError(f"--{name}: is for --engine ray; add that, or leave it out")
        return None
    if num_gpus is not None and not 0 < num_gpus <= 1:
        raise InputError(f"--num-gpus {num_gpus:g}: expected more than 0 and at most 1")
    if worker_timeout is not None and not worker_timeout > 0:
        raise InputError(f"--worker-timeout {worker_timeout:g}: expected more than 0")
    if importlib.util.find_spec("ray") is None:
        raise InputError("--engine ray: ray is not installed; pip install 'mutransfer-cli[ray]'")
    return RayOptions(address, num_gpus or 1.0, worker_timeout or 600.0)
