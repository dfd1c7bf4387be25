"""`import vlab` stays light: checked by what it loads, since no clock says the same twice."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("numpy", "pandas", "unicorn", "capstone", "rich", "click", "multiprocessing", "asyncio")


def modules_after(statement: str) -> set[str]:
    program = f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_import_vlab_imports_nothing_heavy() -> None:
    loaded = modules_after("import vlab")
    assert "vlab" in loaded
    assert loaded.isdisjoint(HEAVY), f"`import vlab` also imports {sorted(loaded & set(HEAVY))}"


def test_import_vlab_imports_no_other_module_of_vlab() -> None:
    assert {name for name in modules_after("import vlab") if name.startswith("vlab.")} == set()


@pytest.mark.parametrize("module", ["vlab.cli", "vlab.isa", "vlab.errors"])
def test_the_command_line_and_the_facts_load_neither_engine_nor_data_frames(module: str) -> None:
    loaded = modules_after(f"import {module}")
    heavy = set(HEAVY) - {"click"}
    assert loaded.isdisjoint(heavy), f"`import {module}` also imports {sorted(loaded & heavy)}"


def test_an_unknown_name_says_what_there_is() -> None:
    import vlab

    with pytest.raises(
        AttributeError, match=r"module 'vlab' has no attribute 'VMM'; it has Machine, Stop, VM, guests"
    ):
        _ = vlab.VMM
    assert {"VM", "Machine", "guests", "__version__"} <= set(dir(vlab))
