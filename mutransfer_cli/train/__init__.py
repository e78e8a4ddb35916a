"""Training many trials of one width at once."""
