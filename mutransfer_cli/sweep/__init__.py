"""Which trials to run, who runs them, and where their records lie."""
