"""stub"""


def recipes() -> None:
    """Stub."""
