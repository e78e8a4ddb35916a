"""What goes out: the exponents file and the recipe."""
