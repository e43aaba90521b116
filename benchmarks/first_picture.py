"""How long a stranger waits for the first picture: ``python -m benchmarks.first_picture``.

Builds the wheel, makes a new environment, installs the wheel with everything it needs from the
package index that pip is set to, and compresses the embedded generator for a few steps, in a folder
outside of this repository. Each part is timed; the picture must be there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import record

RESULT = record.RESULTS / "first_picture.json"
DOCUMENT = record.ROOT / "README.md"
MARKER = "first-picture"
STEPS = 20


def timed(words: Sequence[str], folder: Path, env: Mapping[str, str]) -> float:
    """Run a command and return its seconds.

    Raises:
        SystemExit: it fails; what it said is in the text.
    """
    started = time.monotonic()
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} fails: {(done.stdout + done.stderr)[-3000:]}")
    return time.monotonic() - started


def built(folder: Path) -> Path:
    """Build the wheel of this checkout in ``folder`` and return it."""
    words = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder)]
    timed([*words, str(record.ROOT)], record.ROOT, os.environ)
    (wheel,) = folder.glob("*.whl")
    return wheel


def waited(wheel: Path, folder: Path) -> dict[str, float]:
    """Return the seconds of each part of the way to a picture, in a new environment."""
    home = folder / "venv"
    venv.create(home, with_pip=True)
    bin_ = home / ("Scripts" if sys.platform == "win32" else "bin")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env["GANCOMPRESS_CACHE"] = str(folder / "cache")
    place = folder / "elsewhere"
    place.mkdir()
    pip = [str(bin_ / "python"), "-m", "pip", "install", "--quiet", f"{wheel}[report]"]
    seconds = {"install": timed(pip, place, env)}
    tool = str(bin_ / "gancompress")
    seconds["first words"] = timed([tool, "--help"], place, env)
    prune = [tool, "prune", "--max-steps", str(STEPS), "--out", "run"]
    seconds["prune"] = timed(prune, place, env)
    if not (place / "run" / "before_after.png").is_file():
        raise SystemExit("there is no picture")
    seconds["installed MiB"] = sum(f.stat().st_size for f in home.rglob("*") if f.is_file()) / 2**20
    return {name: round(value, 1) for name, value in seconds.items()}


def markdown(found: Mapping[str, float | int | str]) -> str:
    """Return the sentence of README."""
    whole = float(found["install"]) + float(found["prune"])
    return (
        f"From `pip install` to a first picture: {whole:.0f} s, of which {found['install']:.0f} s "
        f"go into the installation ({float(found['installed MiB']) / 1024:.1f} GiB, most of it "
        f"PyTorch) and {found['prune']:.0f} s into `gancompress prune --max-steps {STEPS}` (Python "
        f"{found['python']}, {found['cores']} cores, {found['date']}, commit `{found['git']}`; "
        "`python -m benchmarks.first_picture`).\n"
    )


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and write the result and README's sentence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it")
    options = parser.parse_args(words)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="first-picture-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = record.protocol(0) | {"cores": os.cpu_count()} | waited(built(folder), folder)
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    record.place(DOCUMENT, MARKER, markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
