"""One definition of each flag that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL] [KEY=VALUE]...",
        help="package.module:build_fn, a run folder, or nothing for the embedded generator; "
        "then any recipe field as key=value (or --key value), dotted for nested ones.",
        show_default=False,
    ),
]
What = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="package.module:build_fn, a run folder, or nothing for the embedded generator.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", metavar="PKG.MODULE:FN", help="Same as the word MODEL.")
]
Weights = Annotated[
    str | None,
    typer.Option(metavar="FILE[:KEY]", help="Weights of MODEL: safetensors, or torch weights."),
]
Discriminator = Annotated[
    str | None,
    typer.Option(metavar="PKG.MODULE:FN", help="Discriminator of MODEL; none = no adversarial."),
]
DiscriminatorWeights = Annotated[
    str | None, typer.Option(metavar="FILE[:KEY]", help="Weights of the discriminator.")
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=SPEC",
        help="How to draw an input: z=normal(128), y=labels(10), x=uniform(3,64,64). Repeat it "
        "once per argument of forward, in order.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Image folder (a subfolder a class) or .npz with x and y."),
]
Device = Annotated[str, typer.Option(metavar="cpu|cuda|auto", help="Where to compute.")]
Seed = Annotated[
    int | None, typer.Option(help="Seed of everything random (default: the recipe's).")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
RecipeName = Annotated[str, typer.Option("--recipe", "-r", metavar="NAME|FILE", help="The method.")]
Goal = Annotated[
    str | None,
    typer.Option("--target", metavar="params=5.2x|macs=0.2", help="Size to reach."),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Run folder; must not exist (default: runs/NNNN-...)."),
]
Resume = Annotated[
    str | None,
    typer.Option(metavar="auto|DIR", help="Go on with an interrupted run, bit for bit on CPU."),
]
InitFrom = Annotated[
    str | None, typer.Option(metavar="FILE", help="Start from these weights, as a new run.")
]
Precision = Annotated[
    str | None, typer.Option(metavar="float32|bf16", help="Arithmetic (default: the recipe's).")
]
MaxSteps = Annotated[int | None, typer.Option(min=1, help="Stop after so many steps in all.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and the sizes it leads to; write nothing.")
]
Number = Annotated[int, typer.Option("--n", min=1, help="How many images.")]
PLUGGABLE = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}
