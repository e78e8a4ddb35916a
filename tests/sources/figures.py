"""The exponents that were found, for the summary of the test run."""

from __future__ import annotations

FIGURES: dict[str, str] = {}
