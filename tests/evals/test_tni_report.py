"""The pictures and the page of a TNI report, the page in a real browser where there is one."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import oscar_x
from oscar_x.evals.tni_report import draw_figures, save_figures, write_html
from oscar_x.evals.tni_report.figures import FIGURES
from oscar_x.tni import TniReport

# CHROMIUM names a browser that is not on the path
BROWSER = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
NAME = 'a <model> & "more"'
VOID = {"meta", "img", "br", "link"}
REFERENCES = {"src", "href", "data", "action", "srcset", "poster"}


class Page(HTMLParser):
    """Collects tags, text, and what refers to something; refuses tags that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.references: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in REFERENCES]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def report(support, tiny_media) -> TniReport:
    """Of a conversation with images, a video and a sound."""
    make = support("tiny_media")
    model = oscar_x.load(tiny_media("qwen2_5_omni"), device="cpu")
    kinds = make.load_family("qwen2_5_omni").kinds
    conversation = support("media_cases").cases(make, kinds, model.adapter.media)["mixed"][0]
    conversation[0]["content"].append({"type": "text", "text": "</td><script>fetch('http://there')</script>"})
    return oscar_x.measure_tni(model, conversation)


@pytest.fixture(scope="module")
def page(report, tmp_path_factory) -> Path:
    return write_html(report, tmp_path_factory.mktemp("page") / "tni.html", NAME)


def test_every_figure_is_drawn(report, tmp_path):
    written = save_figures(report, tmp_path / "tni")
    assert {path.name for path in written} == {f"tni-{name}.{end}" for name in FIGURES for end in ("png", "svg")}
    for path in written:
        if path.suffix == ".svg":
            assert path.read_text().rstrip().endswith("</svg>")
        else:
            assert len(Image.open(path).convert("RGB").getcolors(maxcolors=2**24) or []) > 20


def test_figures_show_what_the_report_says(report):
    figures = draw_figures(report)
    heatmap, band = figures["norms"].axes[:2]
    assert heatmap.images[0].get_array().shape == (2, len(report.norm_map.modalities))
    assert [text.get_text() for text in band.get_legend().get_texts()] == ["text", "image", "video", "audio"]
    names = [label.get_text() for label in figures["violins"].axes[0].get_xticklabels()]
    assert names == ["text", "image", "video", "audio"]
    lowest = figures["sinks"].axes[0].images[0].get_array()
    assert lowest[1, 0] == report.layers[0].heads[1].keys.low_tokens[0].ratio
    lines = {line.get_label(): line.get_ydata() for line in figures["causes"].axes[0].get_lines()}
    assert lines["error as it is"][1] == report.error(layer=1, measure="token")


def test_the_page_is_whole_and_refers_to_nothing(page, report):
    text = page.read_text(encoding="utf-8")
    found = Page(text)
    assert len(found.references) == len(FIGURES)
    for reference in found.references:
        kind, data = reference.split(",", 1)
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data, validate=True))).width > 800
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    style = text[text.index("<style>") : text.index("</style>")]
    assert not re.search(r"url\(|@import", style)
    words = " ".join(found.words)
    assert f"Token Norm Imbalance of {NAME}" in words
    for sentence in report.findings():
        assert sentence.split(": ", 1)[1][1:] in words
    assert found.tags.count("tr") == 2 + len(report.findings()) + len(report.layers)


def test_a_failed_page_leaves_nothing_behind(report, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        write_html(report, tmp_path / "nowhere" / "tni.html", NAME)
    (tmp_path / "tni.html").mkdir()
    with pytest.raises(OSError, match=r"tni\.html"):
        write_html(report, tmp_path / "tni.html", NAME)
    assert [path.name for path in tmp_path.iterdir()] == ["tni.html"]


def browse(*arguments: str, profile: Path) -> str:
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}")
    result = subprocess.run([str(BROWSER), *options, *arguments], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium on the path or in CHROMIUM")
def test_a_browser_shows_the_page(page, report, tmp_path):
    # the same page, asked by a script what it sees; the page itself forbids scripts
    probe = (
        "<script>addEventListener('load', () => { const seen = [...document.images].map(i => i.naturalWidth);"
        "document.title = JSON.stringify({images: seen, rows: document.querySelectorAll('#findings tr').length,"
        "wide: document.documentElement.scrollWidth, fetched: performance.getEntriesByType('resource')"
        ".filter(e => !e.name.startsWith('data:')).length}) })</script>"
    )
    text = re.sub(r"<meta http-equiv[^\n]*\n", "", page.read_text(encoding="utf-8"))
    (tmp_path / "probe.html").write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    shown = browse("--window-size=1000,800", "--dump-dom", (tmp_path / "probe.html").as_uri(), profile=tmp_path / "p")
    title = re.search(r"<title>(.*?)</title>", shown)
    assert title is not None
    assert '"fetched":0' in title[1]
    assert f'"rows":{1 + len(report.findings())}' in title[1]
    widths = re.search(r'"images":\[([\d,]+)\]', title[1])
    assert widths is not None
    assert all(int(width) > 800 for width in widths[1].split(","))
    assert int(re.findall(r'"wide":(\d+)', title[1])[0]) <= 1000

    picture = tmp_path / "page.png"
    browse(
        "--window-size=1000,3000", "--hide-scrollbars", f"--screenshot={picture}", page.as_uri(), profile=tmp_path / "q"
    )
    shot = Image.open(picture).convert("RGB")
    assert shot.size == (1000, 3000)
    # the colours of all modalities, from the band and the violins, are on the screen
    colors = {pixel for _, pixel in shot.getcolors(maxcolors=2**24) or []}
    for wanted in ((0x4B, 0x65, 0x84), (0xC1, 0x44, 0x0E), (0xD9, 0xA4, 0x04), (0x2A, 0x7F, 0x62)):
        assert any(max(abs(a - b) for a, b in zip(pixel, wanted, strict=True)) <= 2 for pixel in colors), wanted
