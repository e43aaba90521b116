"""Which task inputs and data make plain, where nobody says it."""

from __future__ import annotations

from gancompress.tasks.protocol import Sources


def inferred_task(sources: Sources) -> str:
    """Return the name of the only task that ``sources`` allow; ``noise`` where several do (ours).

    Pairs are paired; files as inputs beside no data are answered by the teacher. Files as inputs
    beside pictures may be pairs or two domains: equal names say pairs, else it is unpaired.
    """
    data, sampler = sources.dataset, sources.sampler
    if hasattr(data, "pairs"):
        return "paired"
    if sampler is None or not sampler.files:
        return "vocoder" if getattr(data, "rate", None) is not None else "noise"
    if data is None:
        return "teacher"
    names = getattr(data, "names", None)
    stems = None if names is None else {str(name).rpartition(".")[0] or str(name) for name in names}
    if getattr(data, "rate", None) is not None:
        return "vocoder"
    return "paired" if stems == set(sampler.files) else "unpaired"
