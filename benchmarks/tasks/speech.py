"""Speech that espeak-ng makes of sentences of our own: several voices, one rate.

    apt-get install espeak-ng
    python benchmarks/tasks/speech.py speech

writes ``speech/train`` and ``speech/test``: mono wav files of 22,050 Hz, of the same voices and
other sentences. ``--espeak "PROGRAM"`` names another program. The same version of espeak-ng makes
the same files every time.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

VOICES = ("en-us+m3", "en-gb+f2", "en-us+f4", "en-gb+m7")
PARTS = {"train": 320, "test": 40}  # sentences

WHO = (
    "the old sailor", "my neighbour", "a small child", "the teacher", "every visitor",
    "our cousin", "the night nurse", "an honest judge", "the tired baker", "nobody",
    "the young violinist", "a grey cat", "the first engineer", "that tall stranger",
)  # fmt: skip
DID = (
    "carried", "found", "painted", "forgot", "bought", "described", "washed", "broke", "measured",
    "hid", "borrowed", "repaired", "noticed", "chose", "sold", "watched",
)  # fmt: skip
WHAT = (
    "a yellow umbrella", "three boxes of apples", "the heavy clock", "two silver keys",
    "an unusual letter", "the wooden bridge", "a jar of honey", "fresh bread", "the last ticket",
    "a pair of shoes", "the quiet garden", "seventeen photographs", "a thick woollen jumper",
    "the measuring tape", "some very good cheese", "a ship in a bottle",
)  # fmt: skip
WHERE = (
    "near the harbour", "behind the church", "at the edge of the forest", "in the kitchen",
    "on the fifth of June", "before the storm began", "under a bright moon", "after the meeting",
    "between two villages", "while it was raining", "just outside the station", "last Thursday",
    "because the shop was closed", "without saying a word",
)  # fmt: skip


def sentences(seed: int) -> Iterator[str]:
    """Yield sentences without end, none of them twice."""
    rng = np.random.default_rng(seed)
    said: set[str] = set()
    while True:
        who, did, what, where = (str(rng.choice(words)) for words in (WHO, DID, WHAT, WHERE))
        order = (f"{who} {did} {what} {where}", f"{where}, {who} {did} {what}")
        sentence = f"{order[int(rng.integers(2))]}.".capitalize()
        if sentence not in said:
            said.add(sentence)
            yield sentence


def parts() -> dict[str, list[str]]:
    """Return the sentences of each part; no sentence is in two of them."""
    endless = sentences(0)
    return {part: [next(endless) for _ in range(count)] for part, count in PARTS.items()}


def make(espeak: list[str], folder: Path) -> None:
    """Write all files below ``folder``."""
    for part, said in parts().items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        for i, sentence in enumerate(said):
            voice = VOICES[i % len(VOICES)]
            speed, pitch = 140 + 10 * (i // 4 % 4), 40 + 5 * (i // 16 % 4)
            file = folder / part / f"{i:04d}-{voice.replace('+', '-')}.wav"
            words = ["-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(file), sentence]
            subprocess.run([*espeak, *words], check=True)
        print(f"{part}: {len(said)} sentences")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the wav files go")
    parser.add_argument("--espeak", default="espeak-ng", help="the program, with its options")
    given = parser.parse_args()
    make(shlex.split(given.espeak), given.folder)


if __name__ == "__main__":
    main()
