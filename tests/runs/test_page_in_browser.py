"""The page of a comparison in a real browser, on a phone and on a desk."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import pytest

from hear_ssl.runs.__main__ import main
from tests.evaluation.report.test_report import BROWSER, COLOURS, FRAME, check_colours, scheme
from tests.runs.test_runs import folder as folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on the PATH (Debian: apt install chromium)"),
]
SEEN = """<script>
window.addEventListener('load', () => {
  const figures = [...document.querySelectorAll('figure svg')];
  const drawn = figure => [...figure.querySelectorAll('path')].filter(part => part.getBoundingClientRect().width > 1);
  const empty = figures.filter(figure => figure.getBoundingClientRect().height < 80 || drawn(figure).length < 2);
  const small = [...document.querySelectorAll('figure svg text')].filter(text => text.getBoundingClientRect().height < 5);
  parent.postMessage(JSON.stringify({figures: figures.length, empty: empty.length, small: small.length, window: innerWidth,
    width: document.documentElement.scrollWidth, heads: [...document.querySelectorAll('th')].map(head => head.offsetHeight / 24),
    colours: COLOURS}), '*');
});
</script>""".replace("COLOURS", COLOURS)


@pytest.mark.parametrize(("width", "dark"), [(400, False), (1200, True)])
def test_every_figure_is_drawn_and_nothing_is_wider_than_the_screen(folder: Path, tmp_path: Path, width: int, dark: bool) -> None:
    assert BROWSER is not None
    main(["compare", str(folder), "--out", str(tmp_path / "compare.html")])
    page = (tmp_path / "compare.html").read_text()
    (tmp_path / "probed.html").write_text(page.replace("</head>", SEEN + "</head>"))
    (tmp_path / "frame.html").write_text(FRAME.replace("WIDTH", str(width)))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
    options += ["--virtual-time-budget=20000", "--window-size=1400,900", "--dump-dom", *scheme(dark)]
    result = subprocess.run([BROWSER, *options, (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=120)
    assert not [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    title = re.search(r"<title>(.*?)</title>", result.stdout)
    assert title, result.stderr[-1000:]
    seen = json.loads(html.unescape(title.group(1)))
    assert seen["window"] == width
    assert seen["width"] <= width
    assert seen["figures"] == page.count("<svg") == 4  # the chart; loss, rank and throughput
    assert (seen["empty"], seen["small"]) == (0, 0)
    check_colours(seen["colours"], dark)
    assert max(seen["heads"]) < 7
