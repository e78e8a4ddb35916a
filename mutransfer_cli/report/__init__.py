"""A sweep, its fit and what was measured as one HTML page: data in, text out."""
