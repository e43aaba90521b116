"""Everything that happens, one line of JSON each."""

from __future__ import annotations

import json
import math

from gancompress.training.callbacks import LOGGERS, Callback, Happening, Place, rewound


@LOGGERS.register("jsonl")
def jsonl_lines(place: Place) -> Callback:
    """Write ``happenings.jsonl``: figures with widths, events, names of pictures and sounds (ours).

    What is not finite is ``null``: JSON has no NaN.
    """
    file = place.folder / "happenings.jsonl"
    kept = rewound(file, place.step, lambda line: json.loads(line)["step"])
    file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def tell(happening: Happening) -> None:
        values = {k: v if math.isfinite(v) else None for k, v in happening.values.items()}
        line = {"step": happening.step, "kind": happening.kind, "name": happening.name}
        more = {"text": happening.text, "values": values, "widths": dict(happening.widths)}
        where = {} if happening.file is None else {"file": happening.file.name}
        known = {k: v for k, v in {**line, **more, **where}.items() if v not in ("", {})}
        with open(file, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(known) + "\n")

    return tell
