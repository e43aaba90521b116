"""Weights & Biases: offline unless the recipe says otherwise."""

from __future__ import annotations

import json
import secrets
from typing import Any, Literal

from gancompress.extras import require
from gancompress.training.callbacks import LOGGERS, Callback, Happening, Place


@LOGGERS.register("wandb", package="wandb")
def wandb_run(
    place: Place,
    *,
    mode: Literal["offline", "online"] = "offline",
    project: str = "gancompress",
    entity: str | None = None,
) -> Callback:
    """Write a run of Weights & Biases (extra ``log``); ``offline`` opens no connection.

    ``wandb sync FOLDER`` sends an offline run later. A resumed run keeps its id, so that one online
    goes on.
    """
    wandb: Any = require("wandb", "log")
    known = place.folder / "run.json"
    if known.is_file():
        name = str(json.loads(known.read_text("utf-8"))["id"])
    else:
        name = secrets.token_hex(4)
        known.write_text(json.dumps({"id": name}), encoding="utf-8")
    run: Any = wandb.init(
        project=project, entity=entity, name=place.run, id=name, resume="allow", mode=mode,
        dir=str(place.folder), config=dict(place.config),
        settings=wandb.Settings(silent=True, console="off"),
    )  # fmt: skip

    def tell(happening: Happening) -> None:
        record: dict[str, Any] = dict(happening.numbers())
        if happening.kind == "picture" and happening.file is not None:
            record[happening.name] = wandb.Image(str(happening.file))
        elif happening.kind == "sound" and happening.file is not None:
            record[happening.name] = wandb.Audio(str(happening.file))
        elif happening.kind == "event":
            record[f"event/{happening.name}"] = happening.text
        if record:
            run.log(record, step=happening.step)
        if happening.kind == "end":
            run.finish()

    return tell
