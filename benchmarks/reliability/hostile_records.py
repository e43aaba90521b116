"""Recipes, records of a run and plans that somebody wrote by hand to do harm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gancompress as gc
from benchmarks.reliability.hostile_weights import Make, as_is, raw
from benchmarks.reliability.toys import RECORD
from gancompress.commands import compare, console, report, verify
from gancompress.commands.resolve.subject import read_record
from gancompress.models import BigGANConfig
from gancompress.recipes.load import load_recipe
from gancompress.storage import digest, read_json, sealed
from gancompress.training.checkpoint import load_checkpoint
from gancompress.training.run_folder import check_start
from tests.training.nets import TinyGenerator

HEAD = "name: a\nkind: train\nsummary: s\nsteps: 1\n"
YAML = {
    "a tag": "a: !!python/object/apply:os.system ['touch ran']",
    "a new object": "!!python/object/new:os.system ['touch ran']",
    "a module": "!!python/module:evil",
    "binary": "a: !!binary aGVsbG8=",
    "a set": "a: !!set {b, c}",
    "laughs": "a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\nd: [*c,*c,*c]",
    "an alias of itself": "a: &a [*a]",
    "200 aliases": "a: &a x\n" + "b: [" + "*a," * 200 + "]",
    "deep": "a: " + "[" * 5000,
    "deep tables": "a: " + "{b: " * 5000,
    "deep lines": "".join(" " * i + "a:\n" for i in range(400)),
    "2 MB": "a: " + "x" * 2 * 10**6,
    "a number of 900,000 digits": HEAD + "seed: " + "9" * 900_000,
    "a number of 4,000 digits": HEAD + "seed: " + "9" * 4000,
    "steps of 4,000 digits": HEAD.replace("steps: 1", "steps: " + "9" * 4000),
    "a key of a list": "? [a, b]\n: c",
    "twice the key": "a: 1\na: 2",
    "merge": "a: {<<: {b: 1}}",
    "two documents": "a: 1\n---\nb: 2",
    "a directive": "%YAML 9.9\n---\na: 1",
    "escapes": 'name: "\\e]0;x\\a"\nkind: train',
    "NUL": "a: \0",
    "half a surrogate": 'a: "\\ud800"',
    "no UTF-8": b"a: \xff\xfe",
    "a list": "- 1\n- 2",
    "empty": "",
    "infinite": HEAD + "mask_lr: .inf",
    "a path as a network": HEAD + "network: ../../evil",
    "code as a loss": HEAD + "losses: [os.system]",
    "code as a plug-in": HEAD + "augment: [{name: evil:build}]",
    "options of 10^5": HEAD + "penalty: {" + ",".join(f"a{i}: 1" for i in range(60_000)) + "}",
    "a colour as steps": HEAD.replace("steps: 1", "steps: red"),
    "regular expressions": HEAD + "target: " + "9" * 50_000 + "!",
    "a million commas": "a: [" + "," * 900_000 + "]",
    "a million quotes": "a: " + "'" * 900_000,
    "a million colons": ": " * 400_000,
}
OVERRIDES = {
    "deep": ".".join("a" * 20_000) + "=1",
    "a tag": "lr=!!python/object/apply:os.system ['touch ran']",
    "2 MB": "a=" + "x" * 2 * 10**6,
    "a dunder": "__class__.__init__=1",
    "a path": "../../x=1",
    "a number": "9=1",
    "a list of none": "distill.0.weight=1",
    "an index of 10^4300": "distill." + "9" * 5000 + "=1",
    "another alphabet": "distill.\u0663=1",
    "escapes": "\x1b]0;x\x07=1",
}
INPUTS = (
    "z=normal(16384,16384)", "z=normal(99999999999999999999)", "z=normal(1000000000)", "z=normal()",
    "z=labels(10000000000)", "z=onehot(1000000000)", "z=constant(1e400)", "z=integers(0,10**99)",
    "z=uniform(" + "9" * 10_000 + ")", "z=normal(" + "1," * 100_000 + "1)", "z=npy(/dev/zero)",
    "z=wav(/proc)", "z=images(/dev)", "z=os.system(touch ran)", "z=normal(__import__('os'))",
    "z=npy(\0)", "z=npy(/etc/passwd)", "z=images(\0)", "z=wav(\0)",
)  # fmt: skip


def records() -> Iterator[tuple[str, Any]]:
    """Yield what a subject.json may hold that no run of ours wrote."""
    yield "a list", [1, 2]
    yield "a number", 7
    yield "nothing", {}
    yield "model of a number", {**RECORD, "model": 7}
    yield "code as the model", {**RECORD, "model": "evil:build"}
    yield "an input of a number", {**RECORD, "input": [7]}
    yield "an input of a text", {**RECORD, "input": "z=normal(3)"}
    for spec in INPUTS:
        yield f"input {spec[:40]!r}", {**RECORD, "input": [spec]}
    for key, value in (
        ("n_classes", 10**9), ("ch", 10**9), ("dim_z", 10**12), ("n_classes", 10**30),
        ("shared_dim", 10**9), ("resolution", 2**40), ("ch", "x"), ("ch", None), ("ch", 1.5),
        ("sn_eps", "x"), ("g_attn", 10**9), ("g_attn", ["x"]), ("image_channels", 10**10),
        ("n_classes", float("nan")), ("init", "os.system"), ("evil", 1), ("hier", "yes"),
    ):  # fmt: skip
        config = BigGANConfig.fashion32().to_dict() | {key: value}
        yield f"BigGAN with {key}={value!r:.12}", {**RECORD, "model": "biggan", "config": config}
    yield "BigGAN of a list", {**RECORD, "model": "biggan", "config": [1]}


def texts() -> Iterator[tuple[str, bytes]]:
    """Yield files that are no JSON, or too much of it."""
    yield "deep lists", b"[" * 10**6
    yield "deep tables", b'{"a":' * 10**5
    yield "100 MB", b"[" + b"1," * 5 * 10**7 + b"1]"
    yield "a number of 10^5 digits", b"[" + b"9" * 10**5 + b"]"
    yield "no UTF-8", b'{"a": "\xff"}'
    yield "NaN", b"NaN"
    yield "NUL", b"\0" * 100
    yield "UTF-16", '{"a": 1}'.encode("utf-16")
    yield "empty", b""
    yield "a pickle", raw("os", "system")


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b]0;x\x07\x1b[2J\u202e\x9b31m"
SUMMARY = {
    "recipe": EVIL, "model": EVIL, "steps": 3, "seed": 0, "run": EVIL, "images_seen": 3,
    "quality": {"student": {"skipped": EVIL}}, "notes": [EVIL],
}  # fmt: skip


def runs() -> Iterator[tuple[str, Make]]:
    """Yield finished runs whose records were written by somebody else."""

    def make(changes: dict[str, Any] | None = None, **files: bytes) -> Make:
        def made(folder: Path) -> None:
            (folder / "summary.json").write_text(json.dumps({**SUMMARY, **(changes or {})}))
            for name, data in files.items():
                (folder / name.replace("__", ".")).write_bytes(data)

        return made

    yield "escapes and HTML", make(
        config__yaml=EVIL.encode(), command__txt=EVIL.encode(),
        events__jsonl=json.dumps({"event": "x", "text": EVIL}).encode(),
    )  # fmt: skip
    odd = (
        ("steps", []), ("quality", {"student": 3}), ("quality", {"student": {"recall": "x"}}),
        ("size", {}), ("size", {"teacher": {}, "small": {}}), ("notes", 7), ("target", "x"),
        ("seed", {}), ("recipe", None), ("images_seen", "x"), ("compression", "x"),
        ("compression", float("nan")), ("size", [1]), ("verify", 3), ("quality", []),
        ("notes", [[["a"] * 9] * 9]), ("run", 7), ("seconds", "x"),
    )  # fmt: skip
    for key, value in odd:
        yield f"{key} of {value!r:.24}", make({key: value})
    from benchmarks.reliability.hostile_data import png

    yield "a picture of 13,000 x 13,000", make(before_after__png=png(13_000, 13_000, colour=0))
    yield "PostScript as a picture", make(samples__png=b"%!PS-Adobe-3.0 EPSF-3.0\n(x) run\n")
    yield "a text as a picture", make(samples__png=b"import os")
    yield "no UTF-8", make(config__yaml=b"\xff\xfe", events__jsonl=b"\xff\xfe")
    yield "a recipe of 200 MB", make(config__yaml=b"x" * 2 * 10**8)
    yield "events of 10^6 lines", make(events__jsonl=b'{"event": "x", "text": "y"}\n' * 10**6)
    yield "deep events", make(events__jsonl=b"[" * 10**6)
    yield "metrics of words", make(metrics__jsonl=b'{"step": "x", "g_loss": "y"}\n' * 3)
    yield "metrics of lists", make(metrics__jsonl=b"[1]\n" * 3)
    yield "metrics of 10^308", make(metrics__jsonl=b'{"step": 1e308, "g_loss": 1e308}\n' * 3)
    yield (
        "metrics of 10^4000",
        make(metrics__jsonl=b'{"step": ' + b"9" * 4000 + b', "g_loss": 1}\n'),
    )
    yield "metrics without end", make(metrics__jsonl=b'{"step": 1, "g_loss": 2}\n' * 10**6)


def models(whole: Path) -> Iterator[tuple[str, Make]]:
    """Yield model folders with right sums and wrong contents: whoever made them can count."""

    def make(name: str, change: Any) -> Make:
        def made(folder: Path) -> None:
            shutil.copytree(whole / "model", folder / "model")
            file = folder / "model" / name
            value = json.loads(file.read_text())
            value = change(value) or value
            data = json.dumps(value).encode()
            file.write_bytes(data)
            manifest = read_json(folder / "model" / "manifest.json")
            if name != "manifest.json":
                manifest["files"][name] = digest(data)
            else:
                manifest = value
            (folder / "model" / "manifest.json").write_bytes(sealed(manifest))

        return made

    sizes = [2**62, 10**30, -1, "x", None, 1e400]
    for size in sizes:
        yield (
            f"starts of {size!r}",
            make("config.json", lambda c, s=size: c["starts"][0].update({"linear.weight": [s, s]})),
        )
        yield f"a graph of {size!r}", make(
            "config.json",
            lambda c, s=size: c.update(
                graph={"args": {"tensor": "float32", "shape": [s, s]}, "kwargs": {"dict": {}},
                       "graph": "x"}),
        )  # fmt: skip
        yield f"keeping channel {size!r}", make("plan.json", lambda p, s=size: _first(p, s))
    yield (
        "a buffer of 2^62",
        make(
            "config.json",
            lambda c: (
                c["starts"][0].update({"lazy": [2**31, 2**31]}),
                c["buffers"].append("lazy"),
            )[2:],
        ),
    )
    yield "a graph of 2^34 numbers", make(
        "config.json",
        lambda c: c.update(graph={"args": {"tensor": "float32", "shape": [2**34]},
                                  "kwargs": {"dict": {}}, "graph": "x"}),
    )  # fmt: skip
    yield "a graph of code", make(
        "config.json",
        lambda c: c.update(graph={"args": {"tensor": "load", "shape": [1]}, "kwargs": {},
                                  "graph": "import os"}),
    )  # fmt: skip
    yield "shared with itself", make("config.json", lambda c: c["shared"].update({"a": "a"}))
    yield "no starts", make("config.json", lambda c: c.update(starts=[], later=[]))
    yield "starts of a text", make("config.json", lambda c: c.update(starts="xyz"))
    yield "a plan of a list", make("plan.json", lambda p: [1, 2])
    yield (
        "files outside",
        make("manifest.json", lambda m: m["files"].update({"../../../etc/passwd": digest(b"")})),
    )
    yield (
        "a file of 2^62 bytes",
        make("manifest.json", lambda m: m["files"]["plan.json"].update(bytes=2**62)),
    )
    yield "format 10^30", make("manifest.json", lambda m: m.update(format=10**30))
    yield "format x", make("manifest.json", lambda m: m.update(format="x"))


def _first(value: Any, size: Any) -> bool:
    """Put ``size`` in place of the first number in a list of numbers, wherever it is."""
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, list) and item and isinstance(item[0], int):
            item[0] = size
            return False
        if isinstance(item, dict | list) and item and _first(item, size) is False:
            return False
    return True


def of_records(whole: Path) -> Iterator[tuple[str, str, Make]]:
    """Yield (name, door, make) of every hostile recipe, record and run."""
    for name, text in YAML.items():
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        yield name, "recipe", as_is(data, "r.yaml")
    for name, text in OVERRIDES.items():
        yield name, "override", as_is(text.encode(), "o.txt")
    for name, record in records():
        yield name, "record", as_is(json.dumps(record).encode(), "subject.json")
    for name, data in texts():
        yield name, "record", as_is(data, "subject.json")
        yield f"manifest: {name}", "start", as_is(data, "manifest.json")
        yield f"manifest: {name}", "checkpoint", as_is(data, "step_000001/manifest.json")
        yield f"summary: {name}", "report", as_is(data, "summary.json")
        yield f"manifest: {name}", "verify", as_is(data, "model/manifest.json")
    for name, make in runs():
        yield name, "report", make
        yield name, "compare", make
    for name, make in models(whole):
        yield name, "model", make


def open_override(folder: Path) -> object:
    """Apply a hostile override to a recipe."""
    return load_recipe("ppcd", [(folder / "o.txt").read_text()]).name


def open_report(folder: Path) -> object:
    """Write the report of a hostile run; return what of it would be run by a browser."""
    report.report(folder, json=False)
    text = (folder / "report.html").read_text()
    return "harm: a script" if "<script" in text or "<img src=x" in text else "a page"


def open_compare(folder: Path) -> object:
    """Print the table of a hostile run; return what of it would reach a terminal."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        compare.compare([folder], json=False, html=None)
        console.note(EVIL)
        console.complain(EVIL, exit_code=2)
    found = sorted({c for c in out.getvalue() if not (c.isprintable() or c == "\n")})
    return f"harm: {found}" if found else "a table"


DOORS: dict[str, Any] = {
    "recipe": lambda folder: load_recipe(folder / "r.yaml").name,
    "override": open_override,
    "record": lambda folder: read_record(folder)["model"],
    "start": lambda folder: check_start(folder),
    "checkpoint": lambda folder: load_checkpoint(folder / "step_000001"),
    "verify": lambda folder: verify.check_integrity(folder, json=True),
    "report": open_report,
    "compare": open_compare,
    "model": lambda folder: type(gc.load(TinyGenerator, folder / "model")).__name__,
}
