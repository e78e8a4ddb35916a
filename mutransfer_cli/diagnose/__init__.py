"""What is measured of proxies in training: pure functions of weights, gradients, activations."""
