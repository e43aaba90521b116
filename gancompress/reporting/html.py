"""One HTML file that opens from a mail: tables, pictures and curves inside, no network."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image

from gancompress.errors import DataError, StorageError
from gancompress.extras import require
from gancompress.reporting.pictures import png
from gancompress.reporting.tables import Table

LIMIT = 5_000_000  # bytes: what most mail servers still pass on
LARGE = 600_000  # bytes of a PNG from which a JPEG stands in

TEMPLATES = Path(__file__).parent / "templates"
"""Page, style and the few lines of script of the slider.

The page's policy forbids every load, and every script but that one, by its hash: "no network" is
kept by the browser and not by our care.
"""


@dataclass(frozen=True)
class Picture:
    """An image with its title and a caption that says how it was made."""

    title: str
    image: Image.Image
    caption: str = ""


@dataclass(frozen=True)
class Verdict:
    """One answer at the head of a report.

    Attributes:
        what: the question: size, speed, quality, exactness.
        value: the figure.
        detail: what it is measured against, and how.
        state: ``good`` and ``bad`` where there is a threshold, which ``detail`` names.
    """

    what: str
    value: str
    detail: str
    state: Literal["good", "bad", "plain"] = "plain"


@dataclass(frozen=True)
class Slider:
    """Two pictures of one size on each other, with a handle between them."""

    title: str
    before: Image.Image
    after: Image.Image
    left: str = "teacher"
    right: str = "student"
    caption: str = ""


@dataclass(frozen=True)
class Width:
    """Channels of a group before and after."""

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class Page:
    """What a report shows: verdicts and slider first, records in full last, folded.

    ``curves`` are our own SVGs, ``texts`` are verbatim. ``notes`` are one sentence each; ``sounds``
    rows of (name, data URI), see `gancompress.reporting.sound_section`; ``load`` is code.
    """

    title: str
    lead: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    curves: Sequence[tuple[str, str]] = ()
    texts: Sequence[tuple[str, str]] = field(default=())
    notes: Sequence[str] = ()
    sounds: Sequence[Sequence[tuple[str, str]]] = ()
    verdicts: Sequence[Verdict] = ()
    slider: Slider | None = None
    widths: Sequence[Width] = ()
    load: str = ""


def source(image: Image.Image) -> str:
    """Return ``image`` as a data URI: PNG, where that is large JPEG of high quality."""
    data, kind = png(image), "png"
    if len(data) > LARGE:
        out = io.BytesIO()
        image.convert("RGB").save(out, "JPEG", quality=92, subsampling=0)
        data, kind = out.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def render_html(page: Page) -> str:
    """Return ``page`` as one HTML document, below 5 MB, that loads nothing.

    Raises:
        ConfigError: jinja2 is not installed (extra ``report``).
        DataError: the document exceeds 5 MB.
    """
    from gancompress import __version__

    jinja2 = require("jinja2", "report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    script = (TEMPLATES / "report.js").read_text("utf-8")
    text = environment.from_string((TEMPLATES / "page.html").read_text("utf-8")).render(
        page=page,
        version=__version__,
        source=source,
        style=(TEMPLATES / "report.css").read_text("utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    size = len(text.encode())
    if size > LIMIT:
        largest = max(page.pictures, key=lambda p: p.image.width * p.image.height, default=None)
        hint = f"; show fewer samples in {largest.title!r}" if largest else ""
        raise DataError(f"the report takes {size / 1e6:.1f} MB, the limit is 5 MB{hint}")
    return text


def write_html(page: Page, file: Path) -> Path:
    """Write ``render_html(page)`` to ``file`` through a temporary name and return ``file``.

    Raises:
        ConfigError: jinja2 is not installed (extra ``report``).
        DataError: the document exceeds 5 MB.
        StorageError: the folder cannot be written.
    """
    text = render_html(page)
    partial = file.with_name(f".{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror}") from error
    return file
