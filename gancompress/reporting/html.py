"""One HTML file that opens from a mail: tables, pictures and curves inside, no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from gancompress.errors import DataError, StorageError
from gancompress.extras import require
from gancompress.reporting.pictures import png
from gancompress.reporting.tables import Table

LIMIT = 5_000_000  # bytes: what most mail servers still pass on

# The policy forbids every load, so that "no network" is kept by the browser and not by our care.
TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<title>{{ page.title }}</title>
<style>
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff;
  max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; margin: .2rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 1.8rem 0 .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem .3rem 0; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.note, figcaption, footer { color: #555; font-size: .85rem; }
figure { margin: 0; }
/* The whole picture on any screen; a phone enlarges it with two fingers. */
figure img { max-width: 100%; height: auto; }
figure svg { max-width: 100%; height: auto; }
pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; font-size: .85rem; }
</style>
</head>
<body>
<h1>{{ page.title }}</h1>
{% if page.lead %}<p>{{ page.lead }}</p>{% endif %}
{% for table in page.tables %}
<h2>{{ table.title }}</h2>
<div class="scroll"><table>
<tr>{% for name in table.columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in table.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% if table.note %}<p class="note">{{ table.note }}</p>{% endif %}
{% endfor %}
{% if page.notes %}
<h2>Notes</h2>
<ul>{% for note in page.notes %}<li>{{ note }}</li>
{% endfor %}</ul>
{% endif %}
{% for picture in page.pictures %}
<h2>{{ picture.title }}</h2>
<figure><img alt="{{ picture.title }}"
 src="data:image/png;base64,{{ encode(picture.image) }}">
{% if picture.caption %}<figcaption>{{ picture.caption }}</figcaption>{% endif %}</figure>
{% endfor %}
{% if page.sounds %}
<h2>Sounds</h2>
<div class="scroll"><table>
{% for row in page.sounds %}<tr>{% for name, source in row %}<td>{{ name }}<br>
<audio controls preload="none" src="{{ source }}"></audio></td>{% endfor %}</tr>
{% endfor %}</table></div>
{% endif %}
{% for title, svg in page.curves %}
<h2>{{ title }}</h2>
<figure>{{ svg | safe }}</figure>
{% endfor %}
{% for title, text in page.texts %}
<h2>{{ title }}</h2>
<pre>{{ text }}</pre>
{% endfor %}
<footer>Made by gancompress {{ version }}</footer>
</body>
</html>
"""


@dataclass(frozen=True)
class Picture:
    """An image with its title and a caption that says how it was made."""

    title: str
    image: Image.Image
    caption: str = ""


@dataclass(frozen=True)
class Page:
    """What a report shows, in this order; ``curves`` are our own SVGs, ``texts`` are verbatim.

    ``notes`` come after the tables, one sentence each; ``sounds`` are rows of (name, data URI), see
    `gancompress.reporting.sound_section`.
    """

    title: str
    lead: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    curves: Sequence[tuple[str, str]] = ()
    texts: Sequence[tuple[str, str]] = field(default=())
    notes: Sequence[str] = ()
    sounds: Sequence[Sequence[tuple[str, str]]] = ()


def render_html(page: Page) -> str:
    """Return ``page`` as one HTML document, below 5 MB, that loads nothing.

    Raises:
        ConfigError: jinja2 is not installed (extra ``report``).
        DataError: the document exceeds 5 MB.
    """
    from gancompress import __version__

    jinja2 = require("jinja2", "report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text = environment.from_string(TEMPLATE).render(
        page=page,
        version=__version__,
        encode=lambda image: base64.b64encode(png(image)).decode(),
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
