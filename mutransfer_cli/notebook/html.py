"""Runs and fits as a notebook shows them: a sentence, the figures, and what to know."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from mutransfer_cli.report.svg import Figure

FIGURES = '<div style="display:flex;flex-wrap:wrap;gap:1em;background:#fff;color:#1b1f24">'
ONE = '<div style="flex:0 1 24em;min-width:16em" role="img" aria-label="{}">{}</div>'


def shown(title: str, answer: str, figures: Iterable[Figure], sentences: Iterable[str]) -> str:
    """A heading, a sentence, figures beside or below each other, and a list of sentences."""
    drawn = "".join(ONE.format(escape(one.words), one.stand_alone()) for one in figures)
    listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return (
        f"<div><strong>{escape(title)}</strong>"
        + (f"<p>{escape(answer)}</p>" if answer else "")
        + (f"{FIGURES}{drawn}</div>" if drawn else "")
        + (f"<ul>{listed}</ul>" if listed else "")
        + "</div>"
    )
