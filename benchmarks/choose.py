"""Choose, for every method, the best of the settings that an experiment of stage tuning tried.

    python benchmarks/choose.py tuning     # writes benchmarks/results/tuning/chosen.json

The best is that of the smallest mean of the primary figure over the tuning seeds. A method whose
settings have not all been run is left out, and named: every method gets the same budget.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.experiment import CHOSEN, Experiment, entries, read_experiment
from benchmarks.record import RESULTS
from benchmarks.table import every, primary, read_rows


def choose(
    experiment: Experiment, results: Path = RESULTS
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the best setting of each method (setting, overrides, mean), and who is not complete.

    Raises:
        SystemExit: the experiment has no grid to choose from.
    """
    if experiment.stage != "tuning" or experiment.grid is None:
        raise SystemExit(
            f"{experiment.name} is no tuning experiment with a grid: nothing to choose"
        )
    rows = read_rows(experiment, results)
    tried = entries(experiment)
    whole = {row.label: row for row in rows if len(row.results) == len(experiment.seeds)}
    found: dict[str, dict[str, Any]] = {}
    missing: list[str] = []
    for label, entry in experiment.runs.items():
        own = [s for s in tried if s.partition("@")[0] == label]
        if any(setting not in whole for setting in own):
            missing.append(label)
            continue
        column = primary(every([whole[s] for s in own]))
        best = min(own, key=lambda s: whole[s].mean(column))
        words = tried[best].overrides[len(entry.overrides) :]
        found[label] = {
            "setting": best, "overrides": list(words), "figure": column,
            "mean": round(whole[best].mean(column), 6), "of": len(own),
        }  # fmt: skip
    return found, missing


def main(words: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Choose the best tuned setting of each method.")
    parser.add_argument("experiment", help="name in benchmarks/experiments, or a file")
    experiment = read_experiment(parser.parse_args(words).experiment)
    found, missing = choose(experiment)
    path = RESULTS / experiment.name / CHOSEN
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{len(found)} methods have their setting; not run to the end: {missing or 'none'}")


if __name__ == "__main__":
    main()
