"""Fits losses to optima, and optima to the exponent of width. No torch."""
