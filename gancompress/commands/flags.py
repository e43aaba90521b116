"""One definition of each flag that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gancompress import __version__

WHO, HOW, WHERE = "Who takes part", "How", "Where, and what is told"
DATA = "How --data is read"

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


def _text(
    names: tuple[str, ...], metavar: str, text: str, panel: str, low: int | None = None
) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel, min=low)


def _switch(name: str, text: str, panel: str) -> Any:
    return typer.Option(name, help=text, rich_help_panel=panel)


Model = Annotated[str | None, _text(("--model",), "PKG.MODULE:FN", "Same as the word MODEL.", WHO)]
Weights = Annotated[
    str | None,
    _text(("--weights",), "FILE[:KEY]", "Weights of MODEL: safetensors, or torch weights.", WHO),
]
Discriminator = Annotated[
    list[str] | None,
    _text(
        ("--discriminator",),
        "PKG.MODULE:FN",
        "Its discriminator; several judge together. Without one, no adversarial loss "
        "(discriminator.policy=fresh makes one).",
        WHO,
    ),
]
DiscriminatorWeights = Annotated[
    list[str] | None,
    _text(
        ("--discriminator-weights",),
        "FILE[:KEY]",
        "Weights of the discriminator; of several one file each, in their order, or one for all.",
        WHO,
    ),
]
DiscriminatorCall = Annotated[
    list[str] | None,
    _text(
        ("--discriminator-call",),
        "ARGS[-> PATH]",
        "How it is called, when the probe finds another way: 'image, label', "
        "'cat(condition, image)', 'image -> 0'; of several likewise.",
        WHO,
    ),
]
Inputs = Annotated[
    list[str] | None,
    _text(
        ("--input",),
        "NAME=SPEC",
        "How to draw an input: z=normal(128), y=labels(10), x=images(DIR), and more (docs/cli.md). "
        "Repeat it once per argument of forward, in order or by their names.",
        WHO,
    ),
]
Output = Annotated[
    str | None,
    _text(("--output",), "N|NAME", "Which output is the image, of several.", WHO),
]
Data = Annotated[
    str | None,
    _text(("--data",), "PATH", "Image folder (a subfolder a class) or .npz with x and y.", WHO),
]
TaskName = Annotated[
    str | None,
    _text(
        ("--task",),
        "NAME",
        "noise, paired, unpaired, restore, vocoder, teacher or your own (default: what inputs and "
        "data make plain); options as task.scale=4.",
        HOW,
    ),
]
Side = Annotated[
    str | None,
    _text(("--ab",), "left|right", "Pairs lie side by side; where the input is.", DATA),
]
Size = Annotated[str | None, _text(("--size",), "S|HxW", "Resize pictures, after --crop.", DATA)]
Crop = Annotated[
    str | None, _text(("--crop",), "center|HxW", "Cut the central part out of pictures.", DATA)
]
Flip = Annotated[bool, _switch("--flip", "Add the mirrored pictures.", DATA)]
Classes = Annotated[
    str | None, _text(("--classes",), "FILE", "Names and order of the classes.", DATA)
]
Split = Annotated[str | None, _text(("--split",), "NAME", "Part of the data, such as train.", DATA)]
Values = Annotated[
    str | None, _text(("--values",), "LOW,HIGH", "What is black and white, of floats.", DATA)
]
Layout = Annotated[
    str | None,
    _text(("--layout",), "nchw|nhwc", "Where the channels of an array are, if unclear.", DATA),
]
Length = Annotated[int | None, _text(("--length",), "N", "Samples of a piece of sound.", DATA, 1)]
Workers = Annotated[
    int | None,
    _text(("--workers",), "N", "Processes that read data ahead (default: some by a GPU).", DATA, 0),
]
OnBad = Annotated[
    str,
    _text(("--on-bad-sample",), "error|skip", "What to do about files that cannot be read.", DATA),
]
Reverse = Annotated[
    str | None,
    _text(
        ("--reverse",),
        "PKG.MODULE:FN",
        "Frozen generator of the way back, for cycles of task unpaired.",
        WHO,
    ),
]
ReverseWeights = Annotated[
    str | None, _text(("--reverse-weights",), "FILE[:KEY]", "Weights of --reverse.", WHO)
]
FeatureView = Annotated[
    str | None,
    _text(
        ("--features",),
        "embedded|inception:FILE|PKG.MODULE:FN",
        "What Frechet distance and PRDC look through; inception: FID and KID as well.",
        HOW,
    ),
]
Teacher = Annotated[
    str | None,
    _text(
        ("--teacher",),
        "RUN|PKG.MODULE:FN",
        "The original to compare with, where the run does not know it.",
        WHO,
    ),
]
RecipeName = Annotated[str, _text(("--recipe", "-r"), "NAME|FILE", "The method.", HOW)]
Goal = Annotated[
    list[str] | None,
    _text(
        ("--target",),
        "params=5.2x|macs=0.2|latency=2x",
        "Size or speed to reach; of several all hold (latency=2x@cpu,batch=1,engine=eager).",
        HOW,
    ),
]
Seed = Annotated[
    int | None,
    _text(("--seed",), "N", "Seed of everything random (default: the recipe's).", HOW, 0),
]
Device = Annotated[
    str, _text(("--device",), "auto|cpu|cuda", "Where to compute; auto: a GPU if any.", HOW)
]
Precision = Annotated[
    str | None,
    _text(("--precision",), "auto|float32|bf16|fp16", "Arithmetic (default: the recipe's).", HOW),
]
MaxSteps = Annotated[
    int | None, _text(("--max-steps",), "N", "Shorten the run to N steps in all.", HOW, 1)
]
Out = Annotated[
    Path | None,
    _text(("--out",), "DIR", "Run folder; must not exist (default: runs/NNNN-...).", WHERE),
]
Resume = Annotated[
    str | None,
    _text(("--resume",), "auto|DIR", "Go on with an interrupted run, bit for bit on CPU.", WHERE),
]
InitFrom = Annotated[
    str | None,
    _text(("--init-from",), "FILE", "Start a new run from these weights.", WHERE),
]
DryRun = Annotated[
    bool,
    _switch("--dry-run", "Print the plan and the sizes it leads to; write nothing.", WHERE),
]
Json = Annotated[bool, _switch("--json", "Print one JSON object on stdout.", WHERE)]
Loggers = Annotated[
    list[str] | None,
    _text(
        ("--log",),
        "NAME",
        "Tell the figures there, too: tensorboard, wandb, mlflow, csv, jsonl or your own; repeat.",
        WHERE,
    ),
]
Form = Annotated[
    str,
    _text(("--form",), "module|graph", "graph: as if sizes in its Python could change.", HOW),
]
SecondOpinion = Annotated[
    bool,
    _switch("--second-opinion", "Say where torch-pruning would group channels otherwise.", HOW),
]
Number = Annotated[int, _text(("--n",), "N", "How many images.", HOW, 1)]
InputSeed = Annotated[int, _text(("--seed",), "N", "Seed of the inputs.", HOW, 0)]
Formats = Annotated[
    str,
    _text(
        ("--to",),
        "FORMAT,FORMAT",
        "onnx, torch.export, aoti, standalone, safetensors; several with commas.",
        HOW,
    ),
]
ExportOut = Annotated[
    Path | None,
    _text(("--out",), "FILE", "Must not exist; of several formats the name without suffix.", WHERE),
]
Dynamic = Annotated[
    list[str] | None,
    _text(
        ("--dynamic",),
        "NAME=0,2,3",
        "Free dimensions of an input, or none (default: batch, and space where it can be).",
        HOW,
    ),
]
NoiseWay = Annotated[
    str | None,
    _text(("--noise",), "input|fixed", "What becomes of noise that the forward draws.", HOW),
]
Fold = Annotated[
    bool, typer.Option(help="Put norms into weights where they can be.", rich_help_panel=HOW)
]
Int8 = Annotated[
    bool, _switch("--int8", "Layers in int8, calibrated; error and speed are measured.", HOW)
]
Calibrate = Annotated[int, _text(("--calibrate",), "N", "Inputs to calibrate --int8 on.", HOW, 1)]
Tolerance = Annotated[
    float | None,
    _text(
        ("--tolerance",),
        "X",
        "Largest difference allowed (default: 1e-4; with --int8 any, and it is told).",
        HOW,
    ),
]
Worst = Annotated[
    Path | None,
    _text(("--worst",), "FILE.png", "Write what is farthest from the teacher there.", WHERE),
]
PLUGGABLE = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="MODULE",
        help="Import a module of your own (my_file for my_file.py here) that registers plug-ins; "
        "after any verb, and more than once.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks (after any verb).")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress.")]
