"""Measurements of proxies in training: pure functions of weights, gradients, activations."""
