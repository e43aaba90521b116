"""Which task inputs and data make plain, where nobody says it."""

from __future__ import annotations

from gancompress.data.arrays import stems_of
from gancompress.errors import ConfigError
from gancompress.tasks.paired import mirror_advice
from gancompress.tasks.protocol import Sources


def inferred_task(sources: Sources) -> str:
    """Return the name of the only task that ``sources`` allow; ``noise`` where several do (ours).

    Pairs are paired; files as inputs beside no data are answered by the teacher. Files as inputs
    beside pictures may be pairs or two domains: equal names say pairs, others (and other counts,
    where there are no names) two domains.

    Raises:
        ConfigError: some names are equal and some are not, or there are as many rows without
            names as inputs: both may be meant.
    """
    data, sampler = sources.dataset, sources.sampler
    if hasattr(data, "pairs"):
        return "paired"
    if sampler is None or not sampler.files:
        # Drawn inputs that somebody typed are what the network reads: no mels are made then.
        drawn = sampler is not None and bool(sampler.parts)
        return "vocoder" if getattr(data, "rate", None) is not None and not drawn else "noise"
    if data is None:
        return "teacher"
    names = stems_of(data)
    stems = None if names is None else set(names)
    if getattr(data, "rate", None) is not None:
        return "vocoder"
    if stems is None and len(data) == len(sampler.files):
        raise ConfigError(
            f"{len(data):,} inputs and as many rows of --data, which have no file names: do they "
            "belong together row by row, or are they two domains? Say --task paired or --task "
            "unpaired"
        )
    if stems is None or not stems & set(sampler.files):
        return "unpaired"
    if stems != set(sampler.files):
        raise ConfigError(_some_match(stems, set(sampler.files)))
    return "paired"


def _some_match(data: set[str], inputs: set[str]) -> str:
    alone = sorted(inputs - data), sorted(data - inputs)
    shown = "; ".join(
        f"{len(names):,} of {what} have no partner ({', '.join(names[:3])}"
        + (", ...)" if names[3:] else ")")
        for names, what in zip(alone, ("the inputs", "--data"))
        if names
    )
    return (
        f"{len(data & inputs):,} files have the same names in inputs and --data, others not: "
        f"{shown}{mirror_advice(alone[1], alone[0])}. Are they pairs, of which some are missing, "
        "or two domains? Mend the names, or say --task paired or --task unpaired"
    )
