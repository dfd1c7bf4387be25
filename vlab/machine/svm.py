"""VMRUN and #VMEXIT: AMD's Secure Virtual Machine, as microcode over the engine that is always in guest mode.

A monitor fills a VMCB, real bytes in the machine's memory, and calls ``vmrun``. Between two VMRUNs of the same
VMCB the processor keeps the guest's registers to itself, as AMD's VMCB caching allows (APM2 15.15): the control
area and the exit fields are current after every exit, the state save area after ``write_back`` or a VMRUN of
another VMCB. Sections of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

import struct
from typing import Final

from vlab.isa.state import CpuState
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.isa.vmcb import EventInjection, EventType, VmcbSave
from vlab.machine.core import SEGMENT_NAMES
from vlab.machine.faults import Event, EventKind
from vlab.machine.processor import STOPPED, Processor

ALL_CLEAN: Final = (1 << 13) - 1
"""Value of the VMCB clean bits that says that no field of the control area was changed (APM2 15.15.3)."""

_ASID_TLB, _INT_CTL = 11, 12
_EXITINTINFO, _NESTED_CTL, _EVENTINJ, _NESTED_CR3, _CLEAN = 17, 18, 21, 22, 24  # 64-bit words of the VMCB
_V_IRQ: Final = 1 << 8
_VALID: Final = 1 << 31
_CONTROLS: Final = struct.Struct("<IIIII")
_EXIT: Final = struct.Struct("<QQQ")
_EXIT_OFFSET: Final = 0x70
_TABLES: Final = ("gdtr", "idtr")
_SAVED: Final = (
    "efer", "cr4", "cr3", "cr0", "dr7", "dr6", "rflags", "rip", "rsp", "rax", "star", "lstar", "cstar",
    "sfmask", "kernel_gs_base", "sysenter_cs", "sysenter_esp", "sysenter_eip", "cr2",
)  # fmt: skip
_KINDS: Final = {
    EventType.INTERRUPT: EventKind.EXTERNAL, EventType.NMI: EventKind.NMI,
    EventType.EXCEPTION: EventKind.EXCEPTION, EventType.SOFTWARE: EventKind.SOFTWARE_INT,
}  # fmt: skip
_TYPES: Final = {
    EventKind.EXTERNAL: EventType.INTERRUPT, EventKind.NMI: EventType.NMI,
    EventKind.EXCEPTION: EventType.EXCEPTION, EventKind.ICEBP: EventType.EXCEPTION,
    EventKind.SOFTWARE_INT: EventType.SOFTWARE, EventKind.INT3: EventType.EXCEPTION,
    EventKind.INTO: EventType.EXCEPTION,
}  # fmt: skip


class Svm:
    """The virtualization extension of one processor. ``current``: the VMCB on it, or None."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._memory = processor.memory
        self.current: int | None = None
        self._words = memoryview(b"").cast("B")
        self._virtual_interrupt = False

    def vmrun(self, vmcb: int) -> int:
        """Run the guest of the VMCB at host-physical ``vmcb`` until #VMEXIT; give the exit code.

        Gives STOPPED, with nothing written, when the processor was asked to stop: to the monitor that is the
        moment of a physical interrupt.
        """
        if vmcb != self.current:
            self._load(vmcb)
        words, processor = self._words, self._processor
        if words[_CLEAN] != ALL_CLEAN or words[_ASID_TLB] >> 32:
            self._load_controls()
        if words[_INT_CTL] & _V_IRQ:
            processor.engine.request_window(True)
            self._virtual_interrupt = True
        elif self._virtual_interrupt:
            processor.engine.request_window(False)
            self._virtual_interrupt = False
        code = self._inject(words[_EVENTINJ]) if words[_EVENTINJ] & _VALID else None
        if code is None:
            code = processor.run()
            if code == STOPPED:
                return code
        words[_EXITINTINFO] = _interrupted(processor.during)
        _EXIT.pack_into(
            self._memory.bytes, self.current + _EXIT_OFFSET, code, processor.info1, processor.info2  # type: ignore[operator]
        )
        return code

    def _inject(self, raw: int) -> int | None:
        """Deliver EVENTINJ (APM2 15.20); give the exit that came of it, if any."""
        self._words[_EVENTINJ] = raw & ~_VALID
        return self._processor.inject(_event(EventInjection(raw), self._processor))

    def _load_controls(self) -> None:
        words, base = self._words, self.current or 0
        crs, drs, exceptions, misc1, misc2 = _CONTROLS.unpack_from(self._memory.bytes, base)
        root = words[_NESTED_CR3] if words[_NESTED_CTL] & 1 else None
        self._processor.set_intercepts(exceptions, misc2 << 32 | misc1, crs, drs, root)
        words[_CLEAN] = ALL_CLEAN

    def _load(self, vmcb: int) -> None:
        """Change worlds: keep the old guest's state in its VMCB and take the new one's (APM2 15.5.1)."""
        self.write_back()
        self.current = vmcb
        self._words = self._memory.bytes[vmcb : vmcb + 0x400].cast("Q")
        core = self._processor.core
        core.load(read_save_area(VmcbSave(self._memory.bytes, vmcb), core.state()))
        self._load_controls()

    def write_back(self) -> None:
        """Bring the current VMCB's save area up to date with the registers."""
        if self.current is not None:
            write_save_area(VmcbSave(self._memory.bytes, self.current), self._processor.core.state())

    def forget(self, vmcb: int) -> None:
        """Drop the VMCB from the processor without writing it back: its memory goes to someone else."""
        if self.current == vmcb:
            self.current = None


def _event(injection: EventInjection, processor: Processor) -> Event:
    kind = _KINDS[EventType(injection.TYPE)]
    code = injection.ERRORCODE if injection.EV else None
    vector = injection.VECTOR
    if kind is EventKind.EXCEPTION and vector == Vector.PF:
        return Event(kind, vector, code, processor.core.cr2)  # whoever injects #PF has set CR2 (APM2 15.20)
    return Event(kind, vector, code)


def _interrupted(during: Event | None) -> int:
    """Give EXITINTINFO (APM2 15.7.2) of an exit; 0 where the instruction that raised the event runs again."""
    return 0 if during is None or during.instruction_length else injection_of(during)


def injection_of(event: Event) -> EventInjection:
    """Give the EVENTINJ value that delivers ``event``."""
    raw = EventInjection(0).replace(VECTOR=event.vector, TYPE=_TYPES[event.kind], V=1)
    if event.kind is EventKind.EXCEPTION and event.error_code is not None:
        return raw.replace(EV=1, ERRORCODE=event.error_code)
    return raw


def write_save_area(save: VmcbSave, state: CpuState) -> None:
    """Put ``state`` into a VMCB's state save area; EFER.SVME is set there, as VMRUN demands (APM2 15.5.1)."""
    for name in SEGMENT_NAMES:
        segment = getattr(state, name)
        setattr(save, f"{name}_selector", segment.selector)
        setattr(save, f"{name}_attributes", segment.attributes)
        setattr(save, f"{name}_limit", segment.limit)
        setattr(save, f"{name}_base", segment.base)
    for name in _TABLES:
        setattr(save, f"{name}_base", getattr(state, name).base)
        setattr(save, f"{name}_limit", getattr(state, name).limit)
    for name in _SAVED:
        setattr(save, name, getattr(state, name))
    save.efer = state.efer | 1 << 12
    save.g_pat = state.pat
    save.cpl = state.cpl


def read_save_area(save: VmcbSave, rest: CpuState) -> CpuState:
    """Give the state in a save area; registers that VMRUN does not load are those of ``rest``."""
    state = rest.copy()
    for name in SEGMENT_NAMES:
        segment = getattr(state, name)
        segment.selector = getattr(save, f"{name}_selector")
        segment.attributes = getattr(save, f"{name}_attributes")
        segment.limit = getattr(save, f"{name}_limit")
        segment.base = getattr(save, f"{name}_base")
    for name in _TABLES:
        getattr(state, name).base = getattr(save, f"{name}_base")
        getattr(state, name).limit = getattr(save, f"{name}_limit")
    for name in _SAVED:
        setattr(state, name, int(getattr(save, name)))
    state.efer &= ~(1 << 12)
    state.pat = save.g_pat
    return state
