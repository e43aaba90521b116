"""TensorBoard: ``tensorboard --logdir runs`` shows scalars, widths, pictures and sounds."""

from __future__ import annotations

import wave

import numpy as np
from PIL import Image

from gancompress.training.callbacks import LOGGERS, Callback, Happening, Place


@LOGGERS.register("tensorboard", package="tensorboard")
def tensorboard_files(place: Place) -> Callback:
    """Write event files of torch.utils.tensorboard (extra ``log``)."""
    from torch.utils.tensorboard import SummaryWriter

    purge = place.step + 1 if place.step else None
    writer = SummaryWriter(str(place.folder), purge_step=purge)

    def tell(happening: Happening) -> None:
        for name, value in happening.numbers():
            writer.add_scalar(name, value, happening.step)
        if happening.kind == "event":
            writer.add_text(f"event/{happening.name}", happening.text, happening.step)
        elif happening.kind == "picture" and happening.file is not None:
            with Image.open(happening.file) as image:
                pixels = np.asarray(image.convert("RGB"))
            writer.add_image(happening.name, pixels, happening.step, dataformats="HWC")
        elif happening.kind == "sound" and happening.file is not None:
            with wave.open(str(happening.file)) as sound:
                rate = sound.getframerate()
                samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16)
            writer.add_audio(happening.name, samples[None] / 32768, happening.step, rate)
        elif happening.kind == "end":
            writer.close()

    return tell
