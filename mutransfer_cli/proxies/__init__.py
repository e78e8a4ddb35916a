"""Ordinary modules whose width is swept, and the base plan read off them."""
