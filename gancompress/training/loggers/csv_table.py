"""Figures as a table for spreadsheets."""

from __future__ import annotations

import csv

from gancompress.training.callbacks import LOGGERS, Callback, Happening, Place, rewound

HEAD = "step,name,value"


@LOGGERS.register("csv")
def csv_table(place: Place) -> Callback:
    """Write ``figures.csv``, a row for each figure: ``step,name,value`` (ours).

    Long form, since not every step has every figure: a pivot table makes columns of it.
    """
    file = place.folder / "figures.csv"
    kept = rewound(file, place.step, lambda line: int(line.partition(",")[0]))
    file.write_text("\n".join([HEAD, *kept]) + "\n", encoding="utf-8")

    def tell(happening: Happening) -> None:
        with open(file, "a", newline="", encoding="utf-8") as stream:
            rows = csv.writer(stream, lineterminator="\n")
            rows.writerows([happening.step, name, repr(v)] for name, v in happening.numbers())

    return tell
