"""A generator inside of DistributedDataParallel or FSDP, in a loop of the user's own."""

from __future__ import annotations

import gc
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from gancompress.errors import GraphError
from gancompress.modules.ranks import world


def refuse_sharded(generator: nn.Module) -> None:
    """Refuse a generator whose parameters are shards (FSDP, FSDP2, tensor parallel).

    A channel's rows would be spread over ranks; masks, plans and cuts need whole tensors.

    Raises:
        GraphError: it is one; the message says what to use.
    """
    shell = next((m for m in generator.modules() if "FullyShardedDataParallel" in _bases(m)), None)
    split = next((n for n, p in generator.named_parameters() if hasattr(p, "device_mesh")), None)
    if shell is None and split is None:
        return
    what = "FullyShardedDataParallel" if split is None else f"a DTensor ({split}), as by FSDP2"
    raise GraphError(
        f"{type(generator).__name__} holds {what}: channels cannot be masked or cut in shards. "
        "Generators fit one device: use DistributedDataParallel around the wrapped generator, and "
        "shard the discriminator if need be"
    )


def _bases(module: nn.Module) -> set[str]:
    return {kind.__name__ for kind in type(module).__mro__}


class StaleShell:
    """Lets a DistributedDataParallel that was made before its parameters changed say so (ours).

    Its reducer would average the parameters that it was made with, and the ranks would drift apart
    without a word. A new one around the same generator is unharmed.
    """

    def __init__(self, done: str) -> None:
        self._done = done

    def __call__(self, module: nn.Module, args: Any) -> None:
        """Forward pre-hook.

        Raises:
            GraphError: always.
        """
        raise GraphError(
            f"this DistributedDataParallel is older than {self._done}: it would average parameters "
            "that are gone, and the ranks would drift apart. Make a new one around the same "
            "generator: ddp = DistributedDataParallel(generator, find_unused_parameters=True)"
        )


def outdate_shells(generator: nn.Module, done: str) -> list[RemovableHandle]:
    """Let every DistributedDataParallel around ``generator``, or around what holds it, refuse.

    Call it where parameters of ``generator`` have come, gone or changed their shape; ``done`` says
    how. Alone nothing is looked for.
    """
    if world() == 1:
        return []
    stale = StaleShell(done)
    shells = [
        found
        for found in gc.get_objects()
        if issubclass(type(found), DistributedDataParallel)
        and any(part is generator for part in found.modules())
    ]
    # In front of DDP's own work in forward: nothing is sent before it refuses.
    return [shell.register_forward_pre_hook(stale, prepend=True) for shell in shells]
