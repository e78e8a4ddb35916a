"""The recipe of a target width: built from exponents, applied to a model, written for trainers."""
