"""The report file: self-contained, small, and deaf to markup in names."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from gancompress.errors import DataError
from gancompress.reporting import html
from gancompress.reporting.curves import curves
from gancompress.reporting.html import (
    Page,
    Picture,
    Slider,
    Verdict,
    Width,
    render_html,
    write_html,
)
from gancompress.reporting.pictures import grid
from gancompress.reporting.tables import before_after


def page(title: str = "run 7") -> Page:
    return Page(
        title=title,
        lead="A report.",
        tables=[before_after("size", [("params", "10", "2", "5.00x fewer")], "a note")],
        pictures=[Picture("samples", grid(torch.zeros(4, 1, 8, 8), 2), "seed 0")],
        curves=[("loss", curves([{"step": 0, "a": 1.0}, {"step": 1, "a": 0.5}], ["a"]))],
        texts=[("config", "recipe: ppcd\nseed: 0")],
    )


class Links(HTMLParser):
    """Collects everything a browser might fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "xlink:href"):
                self.found.append(value or "")


def test_nothing_is_loaded_from_anywhere():
    text = render_html(page())
    links = Links()
    links.feed(text)
    outside = [link for link in links.found if not link.startswith(("data:image/png", "#"))]
    assert outside == []
    assert not {"script", "link", "iframe", "object"} & set(links.tags)
    assert "default-src 'none'" in text


def test_the_only_script_is_the_one_that_the_policy_names():
    picture = grid(torch.zeros(4, 1, 8, 8), 2)
    whole = replace(page(), slider=Slider("both", picture, picture))
    text = render_html(whole)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert 'type="range"' in text
    assert "aria-label=" in text


def test_verdicts_say_whether_they_hold_and_come_first():
    verdicts = [
        Verdict("size", "5.2x", "target 5.2x", "good"),
        Verdict("exactness", "1e-3", "at most 1e-9", "bad"),
        Verdict("quality", "0.3", "no threshold"),
    ]
    text = render_html(replace(page(), verdicts=verdicts, widths=[Width("main.0", 8, 2)]))
    body = text[text.index("<body>") :]
    assert body.index("5.2x") < body.index("<table>")
    assert body.count("&#10003; holds") == 1
    assert body.count("does not hold") == 1
    assert "width: 25.0%" in body
    assert "2 of 8" in body


def test_a_large_picture_becomes_a_jpeg(monkeypatch: pytest.MonkeyPatch):
    noise = grid(torch.rand(4, 3, 32, 32), 2)
    assert html.source(noise).startswith("data:image/png")
    monkeypatch.setattr(html, "LARGE", 100)
    assert html.source(noise).startswith("data:image/jpeg")


def test_no_style_of_ours_loads():
    text = render_html(page())
    assert not re.search(r"url\(\s*['\"]?http", text)


def test_everything_given_is_shown_and_fits_a_phone():
    text = render_html(page())
    for part in ("run 7", "A report.", "5.00x fewer", "a note", "seed 0", "recipe: ppcd", "<svg"):
        assert part in text
    assert 'name="viewport"' in text


def test_markup_in_a_name_is_escaped():
    text = render_html(page(title="<script>alert(1)</script>"))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_equal_pages_give_equal_bytes():
    assert render_html(page()) == render_html(page())


def test_a_report_too_large_to_mail_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(html, "LIMIT", 1000)
    with pytest.raises(DataError, match="limit is 5 MB; show fewer samples in 'samples'"):
        render_html(page())


def test_the_file_is_written_whole(tmp_path: Path):
    file = write_html(page(), tmp_path / "deep" / "report.html")
    assert file.read_text(encoding="utf-8") == render_html(page())
    assert [p.name for p in file.parent.iterdir()] == ["report.html"]
