"""Parses an HTML page into its parts."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

LOADING = {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background"}
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """The parts of a page.

    Attributes:
        folder: folder that the page is made from.
        pictures: words of every `<svg role="img">`, by title.
        links: values of attributes that load something or link to it.
        tables: rows of cells, by label.
        data: embedded JSON.
        text: all visible text, without white space between elements.
        tags: number of occurrences of each element.
        ids: all ids, in order.
        unnamed: number of pictures without a title or words.
    """

    def __init__(self, html: str, folder: Path) -> None:
        super().__init__()
        self.html, self.folder = html, folder
        self.pictures: dict[str, str] = {}
        self.links: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.data: Any = None
        self.text = ""
        self.tags: dict[str, int] = {}
        self.ids: list[str] = []
        self.unnamed = 0
        self._open: list[str] = []
        self._names: list[str] = []
        self._label = ""
        self.feed(html)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.links += [value for name, value in found.items() if name in LOADING]
        self.ids += [found["id"]] if "id" in found else []
        if tag == "svg":
            self._names = []
            named = found.get("aria-labelledby", "").split()
            self.unnamed += found.get("role") != "img" or len(named) != 2
        if found.get("role") == "region":
            self._label = found["aria-label"]
            self.tables[self._label] = []
        if tag == "tr":
            self.tables[self._label].append([])
        if tag in ("td", "th"):
            self.tables[self._label][-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} closes something else"
        if tag == "svg":
            title, words = self._names
            self.unnamed += not title.strip() or not words.strip()
            self.pictures[title] = words

    def handle_data(self, data: str) -> None:
        within = self._open[-1] if self._open else ""
        if within == "script":
            self.data = json.loads(data)
        elif within in ("title", "desc") and self._open[-2:-1] == ["svg"]:
            self._names.append(data)
        elif within in ("td", "th"):
            self.tables[self._label][-1][-1] += data
        if within not in ("script", "style"):
            self.text += "" if data.isspace() else re.sub(r"[ \n]+", " ", data)
