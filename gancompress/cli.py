"""The command line: verbs and their flags. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from inspect import signature
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from gancompress.commands import flags
from gancompress.errors import ConfigError

app = typer.Typer(
    name="gancompress",
    help="Make GAN generators small and fast: trace, mask, distil, cut, verify.",
    epilog="Start here: gancompress   |   your own network: gancompress init pkg.module:Class",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: flags.Version = False,
    debug: flags.Debug = False,
    quiet: flags.Quiet = False,
    plugin: flags.Plugins = None,
) -> None:
    from gancompress.commands.console import set_quiet
    from gancompress.plugins.loading import load_plugin

    set_quiet(quiet)
    for module in plugin or ():
        load_plugin(module)
    if context.invoked_subcommand is None:
        from gancompress.commands.welcome import welcome

        welcome()


def _call(place: str, options: dict[str, Any]) -> None:
    """Import ``module:function`` of gancompress.commands, call it, exit with what it returns."""
    module, _, name = place.partition(":")
    # It warns about a CUDA compiler without a GPU, which is no concern of ours.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        code = getattr(importlib.import_module(f"gancompress.commands.{module}"), name)(**options)
    except BaseException as error:
        # Caught here because typer would turn the first into exit code 1, and knows not the other.
        if not isinstance(error, KeyboardInterrupt) and type(error).__name__ != "PreemptedError":
            raise
        code = _fail(error, sys.argv)
    raise typer.Exit(code or 0)


def _run(kind: str, options: dict[str, Any]) -> None:
    from gancompress.commands.words import split_words

    options["what"], overrides = split_words(options.pop("words") or [], _flags(kind))
    # A task goes first: its options may follow as task.key=value.
    for key in ("precision", "seed", "target", "task"):
        value = options.pop(key, None)
        if isinstance(value, list):  # a YAML list of texts, or the one text
            value = value[0] if len(value) == 1 else dumps(value) if value else None
        if value is not None:
            overrides.insert(0, f"{key}={value}")
    if names := options.pop("log", None):
        overrides.insert(0, f"log=[{', '.join(names)}]")
    _call(f"{kind}:{kind}", {"overrides": overrides, **options})


def _training(kind: str, default: str, without: Sequence[str] = ()) -> Callable[..., None]:
    """Make a verb that runs a recipe of ``kind``; ``without`` names the flags that it lacks."""

    def verb(
        words: flags.Words = None,
        recipe: flags.RecipeName = default,
        model: flags.Model = None,
        weights: flags.Weights = None,
        discriminator: flags.Discriminator = None,
        discriminator_weights: flags.DiscriminatorWeights = None,
        discriminator_call: flags.DiscriminatorCall = None,
        data: flags.Data = None,
        inputs: flags.Inputs = None,
        output: flags.Output = None,
        task: flags.TaskName = None,
        ab: flags.Side = None,
        size: flags.Size = None,
        crop: flags.Crop = None,
        flip: flags.Flip = False,
        classes: flags.Classes = None,
        split: flags.Split = None,
        values: flags.Values = None,
        layout: flags.Layout = None,
        length: flags.Length = None,
        on_bad_sample: flags.OnBad = "error",
        workers: flags.Workers = None,
        reverse: flags.Reverse = None,
        reverse_weights: flags.ReverseWeights = None,
        features: flags.FeatureView = None,
        target: flags.Goal = None,
        form: flags.Form = "module",
        out: flags.Out = None,
        resume: flags.Resume = None,
        init_from: flags.InitFrom = None,
        seed: flags.Seed = None,
        device: flags.Device = "auto",
        precision: flags.Precision = None,
        max_steps: flags.MaxSteps = None,
        log: flags.Loggers = None,
        dry_run: flags.DryRun = False,
        json: flags.Json = False,
    ) -> None:
        options = {name: value for name, value in locals().items() if name != "kind"}
        _run(kind, options)

    whole = signature(verb, eval_str=True)
    offered = [p for name, p in whole.parameters.items() if name not in without]
    verb.__signature__ = whole.replace(parameters=offered)  # type: ignore[attr-defined]
    return verb


for _kind, _default, _without, _help in (
    ("prune", "ppcd", (), "Learn which channels can go, cut them, verify the smaller generator."),
    ("distill", "narrow", (), "Teach a generator of fixed, smaller shape."),
    ("train", "fashion-teacher", ("target", "form"), "Train a generator from nothing: a teacher."),
):
    app.command(_kind, context_settings=flags.PLUGGABLE, help=_help)(
        _training(_kind, _default, _without)
    )


@app.command()
def init(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="package.module:Class, or nothing: an example."),
    ] = None,
    weights: flags.Weights = None,
    inputs: flags.Inputs = None,
    recipe: flags.RecipeName = "ppcd",
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder below this one; must not exist.")
    ] = Path("compress"),
    json: flags.Json = False,
) -> None:
    """Write a commented starter for a generator of your own; its inputs are found by trying."""
    _call("starter:start", locals())


@app.command(name="eval")
def evaluate(
    what: flags.What = None,
    model: flags.Model = None,
    weights: flags.Weights = None,
    teacher: flags.Teacher = None,
    data: flags.Data = None,
    inputs: flags.Inputs = None,
    output: flags.Output = None,
    task: flags.TaskName = None,
    ab: flags.Side = None,
    size: flags.Size = None,
    crop: flags.Crop = None,
    flip: flags.Flip = False,
    classes: flags.Classes = None,
    split: flags.Split = None,
    values: flags.Values = None,
    layout: flags.Layout = None,
    length: flags.Length = None,
    on_bad_sample: flags.OnBad = "error",
    features: flags.FeatureView = None,
    worst: flags.Worst = None,
    number: flags.Number = 2000,
    seed: flags.InputSeed = 0,
    device: flags.Device = "auto",
    json: flags.Json = False,
) -> None:
    """Measure quality and size: every number with its count, seed and floor."""
    options = dict(locals())
    _call("evaluate:evaluate", {"asked": options})


@app.command()
def inspect(
    what: flags.What = None,
    model: flags.Model = None,
    weights: flags.Weights = None,
    inputs: flags.Inputs = None,
    form: flags.Form = "module",
    second_opinion: flags.SecondOpinion = False,
    json: flags.Json = False,
) -> None:
    """Say of each layer whether its channels can go and, if not, why."""
    _call("inspect:inspect", locals())


@app.command()
def sample(
    what: flags.What = None,
    model: flags.Model = None,
    weights: flags.Weights = None,
    inputs: flags.Inputs = None,
    output: flags.Output = None,
    number: flags.Number = 40,
    compare: Annotated[
        bool, typer.Option("--compare", help="Teacher above student, same inputs.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="Must not exist.")] = Path(
        "samples.png"
    ),
    seed: flags.InputSeed = 0,
    device: flags.Device = "auto",
    json: flags.Json = False,
) -> None:
    """Write a grid of images; the same seed gives the same file on CPU."""
    _call("sample:sample", locals())


@app.command()
def bench(
    what: flags.What = None,
    model: flags.Model = None,
    weights: flags.Weights = None,
    inputs: flags.Inputs = None,
    batch: Annotated[str, typer.Option(metavar="N,N", help="Batch sizes.")] = "1,8",
    device: flags.Device = "auto",
    json: flags.Json = False,
) -> None:
    """Measure parameters, MACs, size on disk and latency (median and quartiles)."""
    _call("bench:bench", locals())


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with a Pareto plot, too.")
    ] = None,
    json: flags.Json = False,
) -> None:
    """Rank finished runs in one table, or as a page with a plot."""
    _call("compare:compare", locals())


@app.command()
def watch(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="Run folder; default: the newest.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print it once, and end.")] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="How often to look.")] = 1.0,
    json: flags.Json = False,
) -> None:
    """Show a run while it goes on: progress, curves, widths; only reads its files."""
    _call("watch:watch", locals())


@app.command()
def export(
    what: flags.What = None,
    model: flags.Model = None,
    weights: flags.Weights = None,
    inputs: flags.Inputs = None,
    to: flags.Formats = "onnx",
    out: flags.ExportOut = None,
    dynamic: flags.Dynamic = None,
    noise: flags.NoiseWay = None,
    fold: flags.Fold = True,
    int8: flags.Int8 = False,
    calibrate: flags.Calibrate = 64,
    tolerance: flags.Tolerance = None,
    json: flags.Json = False,
) -> None:
    """Write the generator in other formats and check each file against it."""
    _call("export:export", locals())


@app.command()
def push(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="Run, or saved generator.")],
    repo: Annotated[
        str | None, typer.Argument(metavar="[ORG/NAME]", help="Repository of the hub.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the folder; upload nothing.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A private repository.")] = False,
    json: flags.Json = False,
) -> None:
    """Share a small generator on the Hugging Face hub, with a model card."""
    _call("push:push", locals())


@app.command()
def demo(
    what: Annotated[str, typer.Argument(metavar="RUN", help="Finished run, or saved generator.")],
    model: flags.Model = None,
    weights: flags.Weights = None,
    inputs: flags.Inputs = None,
    output: flags.Output = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8765,
    device: flags.Device = "auto",
    json: flags.Json = False,
) -> None:
    """Serve a local page: teacher and student on the same input, times beside them."""
    _call("demo:demo", locals())


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    kept: Annotated[
        float,
        typer.Option(metavar="X", help="Quality is kept up to X times the teacher's distance."),
    ] = 1.1,
    json: flags.Json = False,
) -> None:
    """Write one HTML file about a run, pictures inside."""
    _call("report:report", locals())


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Checkpoint, model or run folder.")],
    json: flags.Json = False,
) -> None:
    """Check the hashes of everything saved below a folder; nothing in it is executed."""
    _call("verify:check_integrity", locals())


@app.command()
def recipes(
    word: Annotated[str | None, typer.Argument(help="Only those that mention it.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="train|prune|distill")] = None,
    json: flags.Json = False,
) -> None:
    """List the methods (also: ls)."""
    _call("recipes:recipes", locals())


@app.command(context_settings=flags.PLUGGABLE)
def show(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name or file.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="JSON schema of any recipe.")] = False,
    json: flags.Json = False,
) -> None:
    """Print a recipe in full, each field with its meaning and default (also: cat)."""
    options = {"recipe": recipe, "overrides": _overrides(words, "show")}
    _call("recipes:show", {**options, "schema": schema, "json": json})


@app.command()
def copy(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name or file.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    json: flags.Json = False,
) -> None:
    """Copy a recipe to a file of your own (also: cp)."""
    _call("recipes:copy", locals())


@app.command(context_settings=flags.PLUGGABLE)
def validate(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name or file.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    json: flags.Json = False,
) -> None:
    """Check a recipe and overrides without running them; all errors at once."""
    options = {"recipe": recipe, "overrides": _overrides(words, "validate")}
    _call("recipes:validate", {**options, "json": json})


@app.command()
def doctor(json: flags.Json = False) -> None:
    """Check this machine and installation; paste the output into a bug report."""
    _call("doctor:examine", locals())


for _alias, _verb in (("ls", recipes), ("cat", show), ("cp", copy), ("env", doctor)):
    _settings = flags.PLUGGABLE if _verb is show else None
    app.command(_alias, hidden=True, context_settings=_settings)(_verb)


def _flags(verb: str) -> list[str]:
    command: Any = typer.main.get_command(app)
    return [option for p in command.commands[verb].params for option in p.opts if option[0] == "-"]


def _overrides(words: list[str] | None, verb: str) -> list[str]:
    from gancompress.commands.words import split_words

    model, overrides = split_words(words or [], _flags(verb))
    if model is not None:
        raise ConfigError(f"{model!r} is not key=value")
    return overrides


def _fail(error: BaseException, words: Sequence[str]) -> int:
    from gancompress.commands.console import fail

    return fail(error, words)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (docs/cli.md)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        from gancompress.commands.words import root_flags_first

        words = root_flags_first(words)
        app(words, prog_name="gancompress")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BrokenPipeError:
        # The reader went away (| head): not an error of ours, and no traceback at exit either.
        sys.stdout = None  # type: ignore[assignment]
        return 0
    except Exception as error:
        return _fail(error, words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
