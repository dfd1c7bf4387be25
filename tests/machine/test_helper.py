"""The optional compiled helper: built once, left out on request, missed with a sentence, never noticed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Literal, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.machine.lab import DATA, HANDLERS, Bench, bench
from vlab.isa.vectors import Vector
from vlab.isa.vmcb import EventInjection, IntCtl, InterceptMisc1, InterceptMisc2, VmcbControl, VmcbSave
from vlab.machine import helper
from vlab.machine.faults import Event, EventKind
from vlab.machine.svm import injection_of, write_save_area

MISSED = "guests run more slowly, and one that executes LOCK BT of a register ends this process"


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Forget what was loaded; use an empty cache directory."""
    monkeypatch.setenv("VLAB_CACHE", str(tmp_path))
    monkeypatch.delenv("VLAB_HELPER", raising=False)
    helper._load.cache_clear()
    helper.load.cache_clear()
    yield tmp_path / "helper"
    helper._load.cache_clear()
    helper.load.cache_clear()


needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("cc", "gcc", "clang")), reason="no C compiler here"
)


@pytest.mark.parametrize("word", ["off", "OFF", "0", "no"])
def test_the_environment_leaves_the_helper_out(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("VLAB_HELPER", word)
    assert helper.load() is None
    assert helper.status() == f"off, as VLAB_HELPER says; {MISSED}"
    assert not fresh.exists()


@needs_compiler
def test_it_is_built_once_and_then_only_loaded(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert helper.load() is not None
    (built,) = fresh.iterdir()
    assert helper.status() == f"in use ({built})"
    helper._load.cache_clear()
    helper.load.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda _name: None)  # no compiler is asked for a second time
    assert helper.load() is not None


def test_without_a_compiler_the_status_says_so(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert helper.load() is None
    assert helper.status() == f"not there: no C compiler (cc, gcc or clang); {MISSED}"


def test_a_compiler_that_fails_is_named_with_its_last_word(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho first >&2\necho 'cc: no such sysroot' >&2\nexit 1\n", encoding="ascii")
    broken.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(broken) if name == "cc" else None)
    assert helper.load() is None
    assert helper.status() == f"not there: {broken} failed: cc: no such sysroot"
    assert not any(fresh.iterdir())


def test_a_cache_that_cannot_be_written_is_no_error(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/cc")
    fresh.parent.mkdir(exist_ok=True)
    fresh.write_text("a file where the directory should be", encoding="ascii")
    assert helper.load() is None
    assert helper.status().startswith("not there: ")


def test_a_library_that_does_not_load_says_what_to_delete(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(_source: bytes, path: Path) -> str:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no library")
        return ""

    monkeypatch.setattr(helper, "_build", build)
    assert helper.load() is None
    (built,) = fresh.iterdir()
    assert helper.status().startswith("cannot be loaded (")
    assert helper.status().endswith(f"; delete {built} to have it rebuilt")


# --- exits in C and in Python -----------------------------------------------------------------------------

M1, M2 = InterceptMisc1, InterceptMisc2
CPUID, HLT, VINTR, VMMCALL, DB = 0x72, 0x78, 0x64, 0x81, 0x41
LENGTHS = {CPUID: 2, HLT: 1, VMMCALL: 3}
ROUNDS = 40
VECTOR = 0x30
PROGRAM = (
    f"be {ROUNDS:02x} 00 00 00"  # mov esi, ROUNDS
    "fb 0f a2 0f a2 0f 01 d9 f4 fa"  # again: sti; cpuid; cpuid; vmmcall; hlt; cli
    "66 0f a2 b9 03 00 00 00 49 75 fd"  # cpuid with a prefix; mov ecx, 3; self: dec ecx; jnz self
    "9c 81 0c 24 00 01 00 00 9d 0f a2"  # pushfd; or dword [esp], TF; popfd; cpuid
    "4e 75 dd f4"  # dec esi; jnz again; hlt
)
COUNT_AND_RETURN = "ff 05 00 00 02 00 cf"  # inc dword [DATA]; iret
END_OF_STEPPING = "ff 05 04 00 02 00 81 64 24 08 ff fe ff ff cf"  # ...; and dword [esp+8], not TF; iret

Action = Literal["nothing", "inject", "window", "unclean", "flush", "leave", "raise", "look"]
ACTIONS: tuple[Action, ...] = get_args(Action)


class Oops(Exception):
    """What a monitor's handler raises."""


class Log:
    """A monitor that does one thing after the other, and writes down all that an exit shows it."""

    def __init__(self, lab: Bench, actions: list[Action], exceptions: int) -> None:
        self.lab = lab
        self.done = False
        self._actions = cycle(actions)
        self.vmcb = lab.machine.frames.allocate()
        lab.memory.zero(self.vmcb, 0x1000)
        self.control = VmcbControl(lab.memory.bytes, self.vmcb)
        self.control.intercept_misc1 = M1.CPUID.mask | M1.HLT.mask | M1.VINTR.mask
        self.control.intercept_misc2 = M2.VMRUN.mask | M2.VMMCALL.mask
        self.control.intercept_exceptions = exceptions
        self.control.asid, self.control.nested_ctl, self.control.nested_cr3 = 1, 1, lab.root
        write_save_area(VmcbSave(lab.memory.bytes, self.vmcb), lab.flat32())
        self.exits: list[tuple[object, ...]] = []

    def serve(self, code: int) -> bool:
        control, lab, processor = self.control, self.lab, self.lab.processor
        self.exits.append(
            (
                code, control.exitcode, control.interrupt_state, control.exitinfo1, control.exitinfo2,
                control.exitintinfo, lab.core.rip, lab.core.rflags, lab.core.rsp, lab.engine.blocks,
                processor.info1, processor.info2, processor.event, processor.during, processor.step_due,
            )
        )  # fmt: skip
        control.exitinfo1 = control.exitinfo2 = control.exitintinfo = 0xDEAD  # the next exit says otherwise
        action = next(self._actions)
        if action == "raise":
            raise Oops
        if code == HLT and lab.core.words[6] == 0:
            self.done = True
            return False
        if code in LENGTHS:
            processor.skip(LENGTHS[code])
        elif code == VINTR:
            control.int_ctl = 0
            action = "inject"
        else:
            control.eventinj = injection_of(Event(EventKind.EXCEPTION, Vector.DB))
            return True
        match action:
            case "inject":
                if lab.core.interrupts_enabled:
                    control.eventinj = EventInjection.interrupt(VECTOR)
            case "window":
                control.int_ctl = IntCtl.V_IRQ.mask
            case "look":
                control.int_ctl = 0
            case "unclean":
                control.clean_bits = 0
            case "flush":
                control.tlb_control = 1
            case _:
                pass
        return action != "leave"

    def run(self) -> tuple[object, ...]:
        """Run the program to its end; give all that is to see of it."""
        lab = self.lab
        first = lab.engine.blocks
        while not self.done:
            lab.engine.stops.arm(lab.engine.blocks + 23)
            try:
                code: object = lab.machine.svm.vmrun(self.vmcb, self.serve)
            except Oops:
                code = "Oops"
            self.exits.append((code, lab.core.rip, lab.engine.blocks - first))
        return lab.core.state(), bytes(lab.ram[DATA : DATA + 8]), lab.engine.blocks - first, self.exits


def outcome(compiled: bool, actions: list[Action], exceptions: int) -> tuple[tuple[object, ...], int]:
    """Run a new machine with or without the helper; also give how many exits went through the helper."""
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(helper, "load", lambda: None)
        with bench() as lab:
            through: list[int] = []
            plain = lab.engine.on_plain_exit

            def counted(code: int) -> int:
                through.append(code)
                return plain(code)

            lab.engine.on_plain_exit = counted
            lab.code(PROGRAM)
            lab.poke(HANDLERS, COUNT_AND_RETURN)
            lab.poke(HANDLERS + 0x20, END_OF_STEPPING)
            lab.gate32(VECTOR, HANDLERS)
            lab.gate32(Vector.DB, HANDLERS + 0x20)
            log = Log(lab, actions, exceptions)
            found = log.run()
            return found, len(through)


@needs_compiler
@pytest.mark.parametrize("exceptions", [0, 1 << Vector.DB])
@pytest.mark.parametrize("action", ACTIONS)
def test_an_exit_is_the_same_in_c_and_in_python(action: Action, exceptions: int) -> None:
    actions: list[Action] = ["nothing", action, "nothing"]
    compiled, through = outcome(True, actions, exceptions)
    plain, none = outcome(False, actions, exceptions)
    assert compiled == plain
    assert through > ROUNDS
    assert none == 0


@needs_compiler
@settings(max_examples=8)
@given(
    st.lists(st.sampled_from(ACTIONS), min_size=2, max_size=40).filter(lambda them: set(them) != {"raise"})
)
def test_whatever_a_monitor_does_at_its_exits_c_and_python_agree(actions: list[Action]) -> None:
    assert outcome(True, actions, 0)[0] == outcome(False, actions, 0)[0]


@needs_compiler
def test_without_vmrun_no_exit_goes_through_the_helper(lab: Bench) -> None:
    lab.engine.on_plain_exit, plain = pytest.fail, lab.engine.on_plain_exit
    try:
        lab.intercept(0, CPUID)
        assert lab.run(lab.flat32(), "0f a2") == CPUID
    finally:
        lab.engine.on_plain_exit = plain
