"""The mathematics of width: what it does to every hyperparameter of every role."""
