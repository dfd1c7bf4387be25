"""The import contract: which part of vlab may know which, and who alone may touch the emulator.

From the top: cli -> (course | lessons) -> (bench | compare | grading | widgets | jupyter) ->
(session | comms | addresses | pace) -> (facts | costs) -> vmm -> (devices | machine | guests) -> trace ->
isa. A part may import what lies below it, never what lies above or beside it. All imports count, also those
inside functions and under TYPE_CHECKING: a cycle that is hidden is still a cycle.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vlab"

#: Parts in one tuple are siblings. `errors` and `paths` lie below all; the facts of x86 do without them.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("course", "lessons"),
    ("bench", "compare", "grading", "widgets", "jupyter"),
    ("session", "comms", "addresses", "pace"),
    ("facts", "costs"),
    ("vmm",),
    ("devices", "machine", "guests"),
    ("trace",),
    ("isa",),
    ("errors", "paths"),
)
LEVEL = {part: level for level, layer in enumerate(LAYERS) for part in layer}

#: The modules that may import the emulator.
ENGINE_MODULES = {"vlab.machine.cpu", "vlab.bench.raw"}

#: What the lowest parts must do without, at any time.
FORBIDDEN = {"isa": {"numpy", "pandas", "capstone", "unicorn", "rich", "click", "vlab.errors", "vlab.paths"}}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "node_modules" not in path.parts)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) for each import; `from a import b` yields `a.b`, since b may be a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides which part it reaches"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def breach(module: str, target: str) -> str | None:
    """Say what is wrong when `module` imports `target`, or None."""
    top = target.partition(".")[0]
    if top == "unicorn" and module not in ENGINE_MODULES:
        return f"only {' and '.join(sorted(ENGINE_MODULES))} may import unicorn"
    part = module.split(".")[1] if "." in module else None
    if part is None:
        return None
    forbidden = next((name for name in FORBIDDEN.get(part, ()) if f"{target}.".startswith(f"{name}.")), None)
    if forbidden:
        return f"vlab.{part} must do without {forbidden}"
    if top != "vlab" or target == "vlab.__version__":
        return None
    other = target.split(".")[1] if "." in target else ""
    if other not in LEVEL:
        return f"{target} is no part of vlab; import the module that defines the name"
    if other == part or LEVEL[other] > LEVEL[part]:
        return None
    where = "beside" if LEVEL[other] == LEVEL[part] else "above"
    return f"vlab.{other} lies {where} vlab.{part}: pass what is needed in, or move it below both"


def breaches(module: str, source: str) -> list[str]:
    found = ((line, target, breach(module, target)) for line, target in imports(source))
    return [f"{module}:{line} imports {target}: {why}" for line, target, why in found if why]


def test_every_part_is_in_the_contract() -> None:
    parts = {name_of(path).split(".")[1] for path in modules() if path != PACKAGE / "__init__.py"}
    assert parts <= set(LEVEL), f"new parts of vlab have no place in LAYERS: {sorted(parts - set(LEVEL))}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    found = breaches(name_of(path), path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "why"),
    [
        ("vlab.devices.serial", "from vlab.machine import bus", "vlab.machine lies beside vlab.devices"),
        ("vlab.trace.events", "import vlab.session", "vlab.session lies above vlab.trace"),
        ("vlab.vmm.vcpu", "def f():\n    import unicorn.x86_const", "may import unicorn"),
        ("vlab.isa.msr", "import numpy as np", "vlab.isa must do without numpy"),
        ("vlab.vmm.vcpu", "from vlab import VM", "vlab.VM is no part of vlab"),
    ],
)
def test_the_contract_notices_a_breach(module: str, source: str, why: str) -> None:
    (message,) = breaches(module, source)
    assert why in message


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vlab.machine.cpu", "import unicorn"),
        ("vlab.session", "from vlab.vmm.vcpu import Vcpu\nfrom vlab.isa.state import CpuState"),
        ("vlab.trace.file", "from vlab import __version__\nfrom vlab.errors import VlabError"),
    ],
)
def test_the_contract_allows_the_way_down(module: str, source: str) -> None:
    assert breaches(module, source) == []
