"""A page in a real browser, as a reader sees it: Chromium, driven by playwright (extra browser).

Tests that use this are skipped where either is missing. ``CHROMIUM`` names a browser to take.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which
from typing import Any

import pytest

WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")
LEAST_CONTRAST = 4.5
"""Of text against what is behind it (WCAG 2.2, level AA)."""

OVERFLOW = """() => {
  const found = [], width = document.documentElement.clientWidth;
  for (const e of document.body.querySelectorAll("*")) {
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    if (box.width === 0 || style.visibility === "hidden" || style.position === "fixed") continue;
    let inside = false;  // of something that scrolls, or that cuts off
    for (let p = e.parentElement; p; p = p.parentElement)
      if (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(p).overflowX))
        inside = true;
    // Text may reach beyond the box of its element.
    const text = style.overflowX === "visible" && style.display !== "inline" ? e.scrollWidth : 0;
    const right = Math.max(box.right, box.left + text);
    if (!inside && right > width + 1) found.push(e.tagName + "." + e.className);
  }
  if (document.documentElement.scrollWidth > width + 1) found.push("the page itself");
  return found.slice(0, 5);
}"""
"""What reaches beyond the right edge."""

CONTRAST = """() => {
  const parse = text => {
    const n = text.match(/[\\d.]+/g).map(Number);
    return n.length < 4 ? [...n.slice(0, 3), 1] : n;
  };
  const light = c => {
    const f = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]);
  };
  let worst = [21, ""];
  for (const e of document.body.querySelectorAll("*")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest("svg, script, style, details:not([open])") || !e.offsetParent) continue;
    let behind = [0, 0, 0, 0];
    for (let p = e; p && behind[3] === 0; p = p.parentElement)
      behind = parse(getComputedStyle(p).backgroundColor);
    if (behind[3] !== 1) continue;
    const ink = parse(getComputedStyle(e).color);
    const seen = [0, 1, 2].map(i => ink[3] * ink[i] + (1 - ink[3]) * behind[i]);
    const a = light(seen), b = light(behind);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, e.tagName + "." + e.className + " " + e.textContent];
  }
  return worst;
}"""
"""The text that is hardest to read, and its contrast."""


def chromium() -> str | None:
    """Return the path of a browser; ``None``: playwright's own, if there is one."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := which(name))), None)


@contextmanager
def browser() -> Iterator[Any]:
    """Yield a browser, or skip the test."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
    with driver.sync_playwright() as tool:
        try:
            args = ["--no-sandbox", "--disable-gpu"]
            found = tool.chromium.launch(executable_path=chromium(), args=args)
        except driver.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        try:
            yield found
        finally:
            found.close()


class Opened:
    """A page, with all that it asked for and complained of."""

    def __init__(self, found: Any, address: str, width: int, scheme: str) -> None:
        size = {"width": width, "height": 800}
        self.page = found.new_page(viewport=size, color_scheme=scheme)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda line: self.complaints.append(line.text) if line.type == "error" else None,
        )
        self.page.goto(address, wait_until="load")

    def check(self, own: str) -> None:
        """Nothing from elsewhere than ``own``, no error, nothing beyond the edge, all legible."""
        outside = [u for u in self.asked if not u.startswith((own, "data:", "blob:"))]
        assert not outside, outside
        assert not self.complaints, self.complaints
        assert not (over := self.page.evaluate(OVERFLOW)), over
        contrast, text = self.page.evaluate(CONTRAST)
        assert contrast >= LEAST_CONTRAST, f"{contrast:.2f}: {text[:80]}"
