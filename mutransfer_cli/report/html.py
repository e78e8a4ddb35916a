"""Pieces of the page. Everything that comes from a file passes through `escaped`.

MERGED:
The page's style sheet: two themes, one column on a phone, ink on paper."""

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


LIGHT = """
  --page: #ffffff; --ink: #1b1f24; --faint: #636c76; --rule: #dfe3e8; --card: #f6f7f9;
  --hidden: #00000038;
  --pass: #0b6e3f; --fail: #b3261e; --inconclusive: #8a5300;
  --s0: #0d0887; --s1: #2e0595; --s2: #46039f; --s3: #5e01a6; --s4: #7401a8; --s5: #8a09a5;
  --s6: #9d189d; --s7: #b02991; --s8: #bf3984; --s9: #cc4977; --s10: #da5a6a; --s11: #e56a5d;
  --c0: #0072b2; --c1: #c05000; --c2: #00785a; --c3: #a8468f; --c4: #6e6400; --c5: #4a4a9c;
  --h0: #440154; --h1: #443983; --h2: #31688e; --h3: #21918c; --h4: #35b779; --h5: #90d743;
  --h6: #fde725;"""
DARK = """
  --page: #14171b; --ink: #e8eaed; --faint: #9aa4af; --rule: #30363d; --card: #1c2127;
  --hidden: #ffffff48;
  --pass: #4cc38a; --fail: #ff8078; --inconclusive: #f0b04f;
  --s0: #b6308b; --s1: #c5407e; --s2: #d14e72; --s3: #dd5e66; --s4: #e76e5b; --s5: #f07f4f;
  --s6: #f79044; --s7: #fca338; --s8: #feb72d; --s9: #fccd25; --s10: #f7e225; --s11: #f0f921;
  --c0: #56b4e9; --c1: #f08a4b; --c2: #2bc79a; --c3: #e29ac8; --c4: #d9cc4a; --c5: #a9a9f5;
  --h0: #fde725; --h1: #90d743; --h2: #35b779; --h3: #21918c; --h4: #31688e; --h5: #443983;
  --h6: #440154;"""
STYLE = f"""
:root {{ color-scheme: light dark;{LIGHT} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{{DARK} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 1400px; padding: 12px; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere; }}
header {{ padding: 8px 0 4px; }}
.name {{ margin: 0; color: var(--faint); font-size: 14px; }}
h1 {{ margin: 4px 0 12px; font-size: clamp(24px, 4vw, 38px); line-height: 1.2; }}
h2 {{ margin: 0 0 4px; font-size: 21px; }}
p {{ margin: 0 0 10px; max-width: 76ch; }}
a {{ color: var(--c0); }}
.answer {{ margin: 0 0 12px; padding: 12px 14px; background: var(--card); border-radius: 8px; }}
.answer p:last-child {{ margin: 0; }}
.numbers {{ display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 16px;
  max-width: none; }}
.value {{ font-size: 34px; font-weight: 650; line-height: 1.1;
  font-variant-numeric: tabular-nums; }}
.interval {{ font-size: 19px; font-variant-numeric: tabular-nums; }}
.verdict {{ padding: 2px 12px; border: 2px solid; border-radius: 99px; font-size: 18px;
  font-weight: 650; }}
.pass {{ color: var(--pass); }}
.fail {{ color: var(--fail); }}
.inconclusive {{ color: var(--inconclusive); }}
.left-out, figcaption, .caption {{ color: var(--faint); }}
section {{ padding: 18px 0; border-top: 1px solid var(--rule); }}
.parts {{ display: grid; gap: 20px; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); }}
figure {{ margin: 0; min-width: 0; }}
.title {{ margin: 0 0 4px; font-weight: 600; font-size: 15px; line-height: 1.35; }}
figcaption, .caption {{ font-size: 14px; line-height: 1.4; }}
.caption {{ margin-bottom: 4px; }}
svg {{ display: block; width: 100%; height: auto; }}
svg * {{ stroke-linejoin: round; }}
svg text {{ fill: currentColor; }}
.answers {{ display: grid; gap: 12px 24px; align-items: center;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); }}
.answers figure {{ max-width: 460px; }}
.table {{ grid-column: 1 / -1; min-width: 0; }}
.scroll {{ max-width: 100%; max-height: 420px; overflow: auto; background-color: var(--page);
  background-image: linear-gradient(to right, var(--page) 40%, transparent),
    linear-gradient(to left, var(--page) 40%, transparent),
    linear-gradient(to top, var(--page) 40%, transparent),
    linear-gradient(to right, var(--hidden), transparent),
    linear-gradient(to left, var(--hidden), transparent),
    linear-gradient(to top, var(--hidden), transparent);
  background-position: left, right, bottom, left, right, bottom; background-repeat: no-repeat;
  background-size: 40px 100%, 40px 100%, 100% 40px, 14px 100%, 14px 100%, 100% 14px;
  background-attachment: local, local, local, scroll, scroll, scroll; }}
table {{ border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 3px 10px 3px 0; border-bottom: 1px solid var(--rule); text-align: left;
  vertical-align: top; overflow-wrap: normal; white-space: nowrap; }}
td:empty::before {{ content: "\\2013"; color: var(--faint); }}
#provenance .table {{ grid-column: auto; }}
#provenance .scroll {{ max-height: none; }}
#provenance td + td {{ white-space: normal; overflow-wrap: anywhere; }}
thead th {{ position: sticky; top: 0; background: var(--page); }}
.answer ul {{ margin: 0; padding-left: 20px; }}
li {{ max-width: 76ch; margin-bottom: 6px; }}
@media screen and (max-width: 480px) {{ table {{ font-size: 13px; }} }}
@media print {{
  body {{ max-width: none; padding: 0; font-size: 11pt; }}
  .parts {{ grid-template-columns: 1fr 1fr; gap: 12pt; }}
  figure, p, .answer, tr, .parts .table {{ break-inside: avoid; }}
  h2, section > p, .caption {{ break-after: avoid; }}
  .scroll {{ max-height: none; overflow: visible; background: none; }}
  #provenance .table {{ grid-column: 1 / -1; break-inside: auto; }}
  table {{ font-size: 9pt; }}
}}
"""
