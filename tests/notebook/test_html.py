from __future__ import annotations

from xml.etree import ElementTree

from mutransfer_cli.notebook.html import shown
from mutransfer_cli.report.svg import figure


def test_all_text_is_escaped_and_figures_stand_alone() -> None:
    drawn = figure("k", "T", "a <b>", lambda axes, colours: None)
    page = shown("a < b", "c & d", [drawn], ["<script>"])
    root = ElementTree.fromstring(page)
    assert root.findtext("strong") == "a < b"
    assert root.findtext("p") == "c & d"
    assert [item.text for item in root.iter("li")] == ["<script>"]
    (picture,) = root.iter("{http://www.w3.org/2000/svg}svg")
    assert picture.get("viewBox") == drawn.view_box
    assert "var(--" not in page


def test_empty_parts_are_left_out() -> None:
    assert shown("a", "", (), ()) == "<div><strong>a</strong></div>"
