"""From losses to optima, and from optima to the exponent of width. No torch."""
