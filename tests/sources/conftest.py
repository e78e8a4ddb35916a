"""Runs logged by the real libraries; `make test-sources` runs these tests.

They need an environment with the libraries, so that the other targets leave them out.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from tests.sources.figures import FIGURES

PACKAGES = (
    *("optuna", "mlflow-skinny", "ray", "tensorboard", "lightning", "transformers"),
    *("wandb", "trackio", "hydra-core", "openpyxl", "pyarrow"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.sources)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if FIGURES:
        for name, figure in FIGURES.items():
            terminalreporter.write_line(f"{name:20} exponent {figure}")
        terminalreporter.write_line(", ".join(_installed(package) for package in PACKAGES))


def _installed(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"
