"""A generator as one Python file that needs torch only, with its weights beside it."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.fx.graph import CodeGen

from gancompress.deployment.program import Program
from gancompress.deployment.weights_file import write_tensors
from gancompress.errors import GraphError
from gancompress.models.built_with import CONFIGS, HOMES, built_with

_HEAD = '''"""{title}: written by gancompress {version}. It needs torch, and {weights} beside it.

    from {module} import load
    generator = load()

{what}
"""

from __future__ import annotations

'''
_TAIL = '''

def read_weights(file: str) -> dict:
    """Return the tensors of a safetensors file: a header in JSON, then the numbers."""
    kinds = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16,
             "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32, "I16": torch.int16,
             "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}
    with open(file, "rb") as stream:
        data = bytearray(stream.read())
    start = 8 + int.from_bytes(data[:8], "little")
    found = {}
    for name, about in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = about["data_offsets"]
            part = data[start + first : start + last]
            flat = torch.frombuffer(part, dtype=kinds[about["dtype"]]) if part else torch.empty(
                0, dtype=kinds[about["dtype"]])
            found[name] = flat.reshape(about["shape"])
    return found


def load(file: str | None = None) -> torch.nn.Module:
    """Return the generator in eval mode, with the weights in ``file``, those beside this one."""
    if file is None:
        file = os.path.join(os.path.dirname(os.path.abspath(__file__)), WEIGHTS)
    generator = build()
    for name, value in read_weights(file).items():
        path, _, last = name.rpartition(".")
        owner = generator.get_submodule(path)
        if last in owner._parameters:
            owner._parameters[last] = torch.nn.Parameter(value)
        else:
            owner._buffers[last] = value
    return generator.eval()
'''


_PROGRAM = '''{imports}

class Generator(torch.nn.Module):
    """The operators of one call: {inputs} in, {outputs} out."""

    def __init__(self) -> None:
        super().__init__()
{buffers}

    def forward(self, *tensors):
        """Run it on tensors in the order of the inputs."""
        found = self._run(*tensors)
        found = (found,) if isinstance(found, torch.Tensor) else tuple(found)
        return {answer}

{lines}


def build() -> torch.nn.Module:
    """Return it without weights."""
    return Generator()
'''


def weights_beside(file: Path) -> Path:
    """Return the file of weights that belongs to the standalone ``file``."""
    return file.with_name(f"{file.stem}_weights.safetensors")


def write_standalone(file: Path, generator: nn.Module, program: Program) -> None:
    """Write ``file`` and, beside it, its weights as safetensors.

    A generator that comes with gancompress is written as its classes, its widths those of the
    weights, and trains; any other as the operators of its traced call, in eval mode alone.

    Raises:
        GraphError: a constant of the program cannot be written as Python.
        ConfigError: its weights are nothing that safetensors holds.
    """
    if built_with(generator) is not None:
        source, tensors = _of_classes(generator), dict(generator.state_dict())
        what = "The classes are those of gancompress; widths are those of the weights. It trains."
    else:
        source, tensors = _of_program(program)
        inputs, outputs = ", ".join(program.inputs), ", ".join(program.outputs)
        what = (
            f"The operators of one traced call, with norms in the weights: load()({inputs})\n"
            f"returns {outputs}. It is for eval mode alone; inputs are tensors in this order."
        )
    weights = weights_beside(file)
    write_tensors(weights, tensors, type(generator).__name__)
    head = _HEAD.format(
        title=type(generator).__name__, version=_version(), weights=weights.name,
        module=file.stem, what=what,
    )  # fmt: skip
    begin = f"import json\nimport os\n\nimport torch\n\nWEIGHTS = {weights.name!r}\n\n"
    text = f"{head}{begin}{source}{_TAIL}"
    _refuse_imports(text)
    file.write_text(text, encoding="utf-8")


def load_standalone(file: Path) -> nn.Module:
    """Import the written file by its place, and return what its load() does."""
    made = importlib.util.spec_from_file_location(f"_standalone_{file.stem}", file)
    assert made is not None
    assert made.loader is not None
    module = importlib.util.module_from_spec(made)
    sys.modules[made.name] = module  # where dataclasses look their annotations up
    try:
        made.loader.exec_module(module)
        return module.load()
    finally:
        del sys.modules[made.name]


def _version() -> str:
    import gancompress

    return gancompress.__version__


def _of_classes(generator: nn.Module) -> str:
    """Return the source of all that a reference network is made of, and how it is built."""
    record = built_with(generator)
    assert record is not None
    modules: list[ModuleType] = []
    _gather(importlib.import_module(HOMES[record.name]), modules)
    seen: dict[str, str] = {}
    parts = []
    for module in modules:
        tree = ast.parse(inspect.getsource(module))
        for name in _defined(tree):
            if name in seen:
                raise GraphError(f"{seen[name]} and {module.__name__} both define {name}")
            seen[name] = module.__name__
        parts.append(_stripped(tree))
    arguments = json.loads(json.dumps(record.arguments))
    build = (
        f'\n\ndef build() -> torch.nn.Module:\n    """Return the network at its original size."""\n'
        f"    return {record.name}({_written(record.name, arguments)})\n"
    )
    return "\n\n".join(parts) + build


def _written(name: str, arguments: dict[str, Any]) -> str:
    parts = []
    for key, value in arguments.items():
        if key == "config" and isinstance(value, dict):
            inner = ", ".join(f"{k}={_tuples(v)!r}" for k, v in value.items())
            parts.append(f"config={CONFIGS[name]}({inner})")
        else:
            parts.append(f"{key}={_tuples(value)!r}")
    return ", ".join(parts)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _gather(module: ModuleType, found: list[ModuleType]) -> None:
    """Collect ``module`` and those of ours that it imports, the needed ones first."""
    if module in found:
        return
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        home = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        if home.startswith("gancompress.") and home != "gancompress.models.built_with":
            _gather(importlib.import_module(home), found)
    found.append(module)


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (t.id for t in node.targets if isinstance(t, ast.Name) and t.id != "__all__")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def _stripped(tree: ast.Module) -> str:
    """Return a module's source without its imports of ours, its text and its list of names."""
    body: list[ast.stmt] = []
    for node in tree.body:
        ours = isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gancompress")
        future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets
        )
        if ours or future or text or names:
            continue
        if isinstance(node, ast.ClassDef):
            node.decorator_list = [
                d for d in node.decorator_list
                if not (isinstance(d, ast.Name) and d.id == "remembered")
            ]  # fmt: skip
        body.append(node)
    return ast.unparse(ast.Module(body, []))


def _of_program(program: Program) -> tuple[str, dict[str, Tensor]]:
    """Return a class whose forward is the program, and its tensors by name."""
    graph_module = program.graph()
    graph = graph_module.graph
    tensors: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            value: Any = graph_module
            for part in str(node.target).split("."):
                value = getattr(value, part)
            if not isinstance(value, Tensor):
                raise GraphError(f"the program holds a {type(value).__name__}, which is no tensor")
            name = names.setdefault(str(node.target), f"w{len(names)}")
            tensors[name] = value.detach()
            node.target = name
        elif node.op not in ("placeholder", "call_function", "output"):
            raise GraphError(f"the program holds a {node.op} ({node.target}), not an operator")
    graph.set_codegen(CodeGen())
    code = graph.python_code("self")
    imports, body = _globals(code.globals), code.src
    lines = "\n".join(f"    {line}".rstrip() for line in body.strip().splitlines())
    buffers = "\n".join(
        f"        self.register_buffer({n!r}, torch.empty(0))" for n in tensors
    )  # fmt: skip
    single = len(program.outputs) == 1
    answer = "found[0]" if single else f"dict(zip({list(program.outputs)!r}, found))"
    lines = lines.replace("def forward(self", "def _run(self")
    source = _PROGRAM.format(
        imports=imports,
        inputs=", ".join(program.inputs),
        outputs=", ".join(program.outputs),
        buffers=buffers or "        pass",
        answer=answer,
        lines=lines,
    )
    return source, tensors


def _globals(names: dict[str, Any]) -> str:
    """Return imports and assignments that give the generated code its names."""
    lines = []
    for name, value in names.items():
        home = getattr(value, "__module__", None)
        if name == "torch":
            continue
        if isinstance(value, ModuleType):
            lines.append(f"import {value.__name__} as {name}")
        elif value is type(None):
            lines.append(f"{name} = type(None)")
        elif isinstance(value, float):
            lines.append(f"{name} = float({str(value)!r})")
        elif name in ("device",):
            lines.append("from torch import device")
        elif home and not home.startswith(("torch.fx", "torch.utils", "typing")):
            owner = "operator" if home == "_operator" else home
            lines.append(f"from {owner} import {value.__name__} as {name}")
    return "\n".join(lines)


def _refuse_imports(text: str) -> None:
    """Check that nothing but torch and Python's own library is imported.

    Raises:
        GraphError: it is not; the package is named.
    """
    for node in ast.walk(ast.parse(text)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            first = name.partition(".")[0]
            if first not in ("torch", "__future__") and first not in sys.stdlib_module_names:
                raise GraphError(f"a standalone file would need {first}: it calls operators of it")
