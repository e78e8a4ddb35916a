"""Tune small proxies, fit how the optimum moves with width, emit the target's recipe."""

__version__ = "0.1.0"
