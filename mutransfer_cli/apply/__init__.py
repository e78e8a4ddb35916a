"""The recipe as a library: applied to a model and held against an optimizer."""
