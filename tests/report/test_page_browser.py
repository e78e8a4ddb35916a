"""The page in headless Chromium, on a phone and on a desktop. Run by `make test-browser`."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mutransfer_cli.cli.app import app
from tests.report.pages import Page
from tests.report.runs import write_run
from tests.report.test_page import DECAYS, GATES, diverges, product_only

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
POLICY = re.compile(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>\n")
MEASURE = """<script>
window.onload = () => {
  const wide = document.documentElement.clientWidth;
  const own = (e) => e.closest('.scroll') !== null && !e.matches('.scroll');
  const out = [...document.querySelectorAll('body *')]
    .filter((e) => !own(e) && !e.closest('script,style'))
    .filter((e) => { const r = e.getBoundingClientRect();
                     return r.width > 0 && (r.right > wide + 1 || r.left < -1); })
    .map((e) => e.tagName + ': ' + (e.textContent || '').slice(0, 40));
  const cut = [...document.querySelectorAll('svg text')].filter((t) => {
    const r = t.getBoundingClientRect(), s = t.closest('svg').getBoundingClientRect();
    return r.left < s.left - 2 || r.right > s.right + 2 || r.top < s.top - 2 ||
           r.bottom > s.bottom + 2; }).map((t) => t.textContent);
  const ticks = [...document.querySelectorAll('svg')].flatMap((s) => {
    const all = [...s.querySelectorAll('text')].map((t) => [t.textContent,
                                                           t.getBoundingClientRect()]);
    return all.flatMap(([a, p], i) => all.slice(i + 1)
      .filter(([, q]) => p.left < q.right - 1 && q.left < p.right - 1 &&
                         p.top < q.bottom - 2 && q.top < p.bottom - 2)
      .map(([b]) => a + ' on ' + b)); });
  const small = [...document.querySelectorAll('svg text')].filter((t) => {
    const s = t.closest('svg'), shown = s.getBoundingClientRect().width / s.viewBox.baseVal.width;
    return parseFloat(getComputedStyle(t).fontSize) * shown < SMALLEST; })
    .map((t) => t.textContent);
  const silent = [...document.querySelectorAll('svg')].filter((s) =>
    !(s.getAttribute('aria-labelledby') || '').split(' ')
      .every((id) => document.getElementById(id)?.textContent.trim())).length;
  const first = document.querySelector('.verdict');
  const found = {wide, out, cut, ticks, small, silent,
    figures: document.querySelectorAll('svg').length, scrolls: document.documentElement.scrollWidth,
    verdict: first ? first.getBoundingClientRect().bottom : null,
    loaded: performance.getEntriesByType('resource').map((e) => e.name)};
  const outer = parent.document;  // nothing of the frame may be used once it is gone
  outer.body.innerHTML = '<pre id="found"></pre>';
  outer.getElementById('found').textContent = JSON.stringify(found);
};
</script>""".replace("SMALLEST", "10.5")  # pixels


@pytest.fixture
def seen(tmp_path: Path) -> Callable[[str, int], dict[str, Any]]:
    """Look at a page of a given width in a browser, without the page's own security policy."""
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        pytest.skip("Chromium is not installed")

    def look(page: str, wide: int) -> dict[str, Any]:
        path, profile = tmp_path / "page.html", tmp_path / "profile"
        inner = html.escape(POLICY.sub("", page).replace("</body>", f"{MEASURE}</body>"))
        # a window has a minimum width, a frame has none
        style = f"width: {wide}px; height: 900px; border: 0"
        path.write_text(f'<body><iframe style="{style}" srcdoc="{inner}"></iframe></body>')
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
        own = [f"--user-data-dir={profile}", "--disable-background-networking"]
        command = [
            chromium,
            *flags,
            *own,
            "--window-size=1600,1000",
            "--virtual-time-budget=3000",
            f"file://{path}",
        ]
        out = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        found = re.search(r'<pre id="found">(.*?)</pre>', out.stdout, re.DOTALL)
        assert found, out.stderr[-500:]
        return dict(json.loads(html.unescape(found[1])))

    return look


@pytest.mark.parametrize("wide", [380, 1400])
def test_a_reader_sees_everything(
    seen: Callable[[str, int], dict[str, Any]], page_of: Callable[..., Page], wide: int
) -> None:
    several = (
        page_of(decays=DECAYS),
        page_of(loss=diverges),
        page_of(gates=GATES),
        page_of(loss=product_only, decays=DECAYS, measured=False),
        page_of(rates=[2**-2, 2**-1, 1.0, 2.0]),
    )
    for page in several:
        found = seen(page.html, wide)
        assert found["wide"] == wide
        assert found["scrolls"] <= wide
        assert found["out"] == found["cut"] == found["ticks"] == found["small"] == []
        assert found["silent"] == 0
        assert found["figures"] == page.tags["svg"]
        assert found["loaded"] == [], "no request leaves"
        assert found["verdict"] < 400, "the answer is on the first screen"


@pytest.mark.parametrize("wide", [380, 800])
def test_a_reader_of_a_comparison_sees_everything(
    seen: Callable[[str, int], dict[str, Any]], tmp_path: Path, wide: int
) -> None:
    """Three sweeps, one of them with far larger rates and one in which runs diverge."""
    options: tuple[dict[str, Any], ...] = (
        {"widths": [16, 24, 32, 48, 64, 96]},
        {"loss": diverges},
        {"rates": [2**-2, 2**-1, 1.0, 2.0]},
    )
    folders = [write_run(tmp_path / f"run-{i}", **one) for i, one in enumerate(options)]
    result = CliRunner().invoke(app, ["report", *map(str, folders)])
    assert result.exit_code == 0, result.stderr
    found = seen(result.stdout, wide)
    assert found["scrolls"] <= wide
    assert found["out"] == found["cut"] == found["ticks"] == found["small"] == []
    assert found["silent"] == 0
    assert found["figures"] == 5
    assert found["verdict"] < 400, "the first answer is on the first screen"


def test_what_the_browser_must_find(seen: Callable[[str, int], dict[str, Any]]) -> None:
    bad = (
        '<body style="margin:0"><img src="http://127.0.0.1:9/x.png"><p style="width:500px">wide</p>'
        '<svg viewBox="0 0 99 99" style="width:99px"><text x="90" y="50">cut off</text>'
        '<text x="9" y="20">one</text><text x="9" y="21">two</text>'
        '<text x="9" y="80" style="font-size:10px">tiny</text></svg></body>'
    )
    found = seen(bad, 380)
    assert found["loaded"] == ["http://127.0.0.1:9/x.png"]
    assert "P: wide" in found["out"]
    assert found["cut"] == ["cut off"]
    assert found["ticks"] == ["one on two"]
    assert found["small"] == ["tiny"]
    assert found["silent"] == 1
