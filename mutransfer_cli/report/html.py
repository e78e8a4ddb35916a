"""Pieces of the page. Everything that comes from a file passes through `escaped`."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from mutransfer_cli.rules.plan import AXES


def escaped(text: object) -> str:
    return html.escape(str(text), quote=True)


def paragraph(text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f"<p{named}>{prose(text)}</p>"


def prose(text: str) -> str:
    """Escaped, with numbers kept on one line with their %."""
    return escaped(text).replace(" %", "&nbsp;%")


def as_sentence(text: str) -> str:
    """With a full stop, and a capital unless it begins with the name of an axis."""
    first = text if text.split()[0] in AXES else text[0].upper() + text[1:]
    return f"{first}."


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """In a box of its own that scrolls on narrow screens, by keyboard too."""
    head = "".join(f'<th scope="col">{escaped(column)}</th>' for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row)}</tr>\n" for row in rows
    )
    return (
        f'<div class="table"><p class="caption">{escaped(caption)}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(caption)}">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div></div>"
    )


def section(key: str, title: str, note: str, *parts: str) -> str:
    return (
        f'<section id="{key}"><h2>{escaped(title)}</h2>{paragraph(note)}'
        f'<div class="parts">{"".join(parts)}</div></section>\n'
    )


def left_out(key: str, title: str, why: str) -> str:
    """A section that a sweep has nothing for, in one sentence."""
    return f'<section id="{key}"><h2>{escaped(title)}</h2>{paragraph(why, "left-out")}</section>\n'


def embedded(key: str, data: Any) -> str:
    """JSON that no text in it can end, and that no reader runs."""
    text = json.dumps(data, allow_nan=False).replace("</", "<\\/").replace("<!--", "<\\u0021--")
    return f'<script type="application/json" id="{key}">{text}</script>\n'


def number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}g}"


def signed(value: float, digits: int) -> str:
    """With its sign; a zero has that of a rise."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def power(value: float | None) -> str:
    """0.0078125 as 2^-7; in a page a power of two says more than its digits."""
    if value is None:
        return ""
    # + 0.0: of -0.0 the sign would be written
    return "0" if value == 0 else f"2^{round(math.log2(value), 2) + 0.0:g}"
