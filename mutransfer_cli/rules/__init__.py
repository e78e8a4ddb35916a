"""Scaling rules: what width does to every hyperparameter of every role. No torch, no files."""
