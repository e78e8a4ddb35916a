"""A connection to Ray: started on this machine, or an address that answers."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import ray

from mutransfer_cli.errors import InputError
from mutransfer_cli.sweep.spawn import Kind
from mutransfer_cli.train.device import DeviceName, choose_device

CONNECT_SECONDS = 5.0  # for a TCP connection
ANSWER_SECONDS = 15.0  # for Ray to answer on it
CONNECT = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='CRITICAL')"


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """While entered, this process is a driver of a Ray cluster.

    Args:
        address: None starts Ray on this machine, for as long; `auto` or HOST:PORT joins a cluster.

    Raises:
        InputError: nothing answers there as Ray does.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None:
        _refuse_without_answer(address)
    # Ray prints what its daemons say to stdout, which belongs to the records; its logs have it too
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        # without an address ray.init would join any cluster that it finds
        ray.init(
            address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
        try:
            yield
        finally:
            ray.shutdown()


def _refuse_without_answer(address: str) -> None:
    """ray.init waits for minutes where nothing answers, or ends the interpreter: another tries."""
    host_port = re.fullmatch(r"([^/\s]+):(\d{1,5})", address)
    if address != "auto" and host_port is None:
        raise InputError(f"--address {address}: expected auto or HOST:PORT, such as head:6379")
    try:
        if host_port is not None:
            target = (host_port[1].strip("[]"), int(host_port[2]))
            socket.create_connection(target, CONNECT_SECONDS).close()
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", CONNECT, address],
            check=True,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
        )
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise _no_cluster(address, f"no answer in {ANSWER_SECONDS:.0f} s") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        raise _no_cluster(address, lines[-1] if lines else f"exit {error.returncode}") from error


def _no_cluster(address: str, reason: str) -> InputError:
    return InputError(
        f"--address {address}: no Ray cluster answers there ({reason}); start one with `ray start "
        "--head`, run this command on one of its machines, or leave --address out"
    )


def choose_kind(name: DeviceName, precision: str, joined: bool) -> Kind:
    """What the workers train on; the driver needs none of it.

    Raises:
        InputError: CUDA asked for on a machine without, or tf32 without CUDA.
    """
    gpus = cluster_gpus()
    if name == "cuda" and not gpus and not joined:
        raise InputError("--device cuda: Ray finds no GPU on this machine; use --device cpu")
    if name == "cpu" or (name == "auto" and not gpus):
        choose_device("cpu", precision)
        return "cpu"
    return "cuda"


def cluster_gpus() -> float:
    """Of all nodes that are there now, in use or not."""
    return float(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
