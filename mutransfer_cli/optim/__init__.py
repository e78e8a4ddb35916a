"""Optimizers over stacked trials, one file each, and the update that they share."""
