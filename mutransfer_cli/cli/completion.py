"""Words that the shell completes: shipped specs, folders of records, pages of the documentation."""

from __future__ import annotations

from pathlib import Path

RUNS = Path("runs")


def spec_names(incomplete: str) -> list[str]:
    """The shipped specs that begin so."""
    from mutransfer_cli.spec.sources import shipped_recipes

    return [name for name in shipped_recipes() if name.startswith(incomplete)]


def run_folders(incomplete: str) -> list[str]:
    """The folders of records under runs/ that begin so."""
    from mutransfer_cli.spec.kinds import TRIALS

    found = sorted(path.parent.as_posix() for path in RUNS.rglob(TRIALS))
    return [name for name in found if name.startswith(incomplete)]


def topics(incomplete: str) -> list[str]:
    """The pages of the documentation that begin so."""
    from mutransfer_cli.cli.docs import TOPICS

    return [name for name in TOPICS if name.startswith(incomplete)]
