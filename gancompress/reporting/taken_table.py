"""What compression took away, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from gancompress.metrics.latents import LatentToll
from gancompress.metrics.taken import Toll
from gancompress.reporting.tables import Table

SHOWN = 5


def taken_table(toll: Toll, names: Sequence[str] | None = None) -> Table:
    """Return the classes that lost most, the worst first, and what the figures mean."""
    rows = []
    for one in toll.classes[:SHOWN]:
        name = "all" if one.label is None else str(one.label)
        if one.label is not None and names is not None and one.label < len(names):
            name = names[one.label]
        known = one.accuracy is not None and one.teacher_accuracy is not None
        rows.append(
            (
                name,
                f"{one.frechet:.3f}",
                f"{one.floor:.3f}",
                f"{one.teacher_accuracy:.1%}" if known else "",
                f"{one.accuracy:.1%}" if known else "",
                f"{one.diversity:.2f}",
                f"{one.agreement:.2f}",
            )
        )
    said = f"{len(toll.lost)} classes lost more than half of their right samples. "
    protocol, around = toll.protocol, toll.latents
    latents = "" if around is None else _around(around)
    note = (
        f"{said if toll.lost else ''}Intra-class Frechet distance to the teacher's samples for the "
        "same inputs (by chance: between two halves of the teacher's). Diversity: distance of two "
        "samples of the class, over the teacher's. Agreement: distance to the teacher for one "
        f"input, 0 the same image, 1 any other of the class. {latents}"
        f"{protocol['n']} samples, seed {protocol['seed']}, features {protocol['features']}."
    )
    columns = (
        "class", "Frechet", "by chance", "right, teacher", "right, student", "diversity",
        "agreement",
    )  # fmt: skip
    return Table(
        "What compression took away, worst classes first", columns, tuple(rows), note,
        optional=("by chance", "agreement"),
    )  # fmt: skip


def _around(found: LatentToll) -> str:
    return (
        f"Around one latent ({found.strength:g} times a normal number away, {found.n} latents) "
        f"outputs spread {found.mean:.2f} times as far as the teacher's; {found.dull} latents keep "
        "less than half. "
    )
