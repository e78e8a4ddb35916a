"""A sweep: its trials, the workers that train them, and the store of their records."""
