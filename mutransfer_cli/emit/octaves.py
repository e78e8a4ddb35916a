"""From octaves back to values."""

from __future__ import annotations

from mutransfer_cli.errors import InsufficientEvidence

MOST_OCTAVES = 200.0  # beyond it nothing is a hyperparameter, and floats soon end


def from_octaves(octaves: float, what: str) -> float:
    """2^octaves.

    Raises:
        InsufficientEvidence: a value that no hyperparameter has: the fit says nothing of it.
    """
    if not abs(octaves) <= MOST_OCTAVES:
        raise InsufficientEvidence(
            f"{what} reaches 2^{octaves:.3g}: the widths are too few or too close together to say "
            "anything there; sweep wider apart"
        )
    return float(2.0**octaves)
