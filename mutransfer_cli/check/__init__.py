"""Gates: does what was measured lie within its tolerance? Pass, fail or inconclusive."""
