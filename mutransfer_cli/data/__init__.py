"""Training text as bytes."""
