"""From losses to optima, and from optima to the exponent of width. No files, no torch."""

from mutransfer_cli.fit.axes import SweepFit, fit_axes
from mutransfer_cli.fit.decay import DecayFit, fit_decay
from mutransfer_cli.fit.exponent import fit_exponents
from mutransfer_cli.fit.result import Bowl, Fit, Law

__all__ = [
    "Bowl",
    "DecayFit",
    "Fit",
    "Law",
    "SweepFit",
    "fit_axes",
    "fit_decay",
    "fit_exponents",
]
