"""VMRUN and #VMEXIT: AMD's Secure Virtual Machine, as microcode over the engine that is always in guest mode.

A monitor fills a VMCB, real bytes in the machine's memory, and calls ``vmrun``. Between two VMRUNs of the
same VMCB the processor keeps the guest's registers to itself, as AMD's VMCB caching allows (APM2 15.15): the
control area and the exit fields are current after every exit, the state save area after ``write_back`` or a
VMRUN of another VMCB. Sections of AMD APM vol. 2, rev. 3.42.

VMRUN here does what VMLOAD does too. As on hardware, it leaves RBX to RDI, R8 to R15, DR0 to DR3 and the x87
and SSE registers alone: a monitor with two guests keeps those for them (``Processor.load_registers``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.isa.vmcb import EventInjection, EventType, VmcbControl, VmcbSave
from vlab.machine.exit_loop import nobody
from vlab.machine.faults import Event, EventKind
from vlab.machine.processor import Processor
from vlab.machine.registers import HFLAGS
from vlab.machine.vmcb_state import read_save_area, refusal, write_save_area

__all__ = ["ALL_CLEAN", "Svm", "injection_of", "read_save_area", "write_save_area"]

ALL_CLEAN: Final = (1 << 13) - 1
"""Value of the VMCB clean bits that says that no field of the control area was changed (APM2 15.15.3)."""

_ASID_TLB, _INT_CTL = 11, 12  # 64-bit words of the VMCB
_MSRPM: Final = 9
_NESTED_CTL, _EVENTINJ, _NESTED_CR3, _CLEAN = 18, 21, 22, 24
_V_IRQ: Final = 1 << 8
_VALID: Final = 1 << 31
_SHADOW: Final = 1  # in interrupt_state
_CONTROLS: Final = struct.Struct("<IIIII")
_EXIT: Final = struct.Struct("QQQQQ")
"""The interrupt shadow, EXITCODE, EXITINFO1, EXITINFO2 and EXITINTINFO."""
_EXIT_OFFSET: Final = 0x68
_REFUSAL: Final = struct.Struct("<QQQ")
"""EXITCODE, EXITINFO1 and EXITINFO2."""
_REFUSAL_OFFSET: Final = 0x70
_ENTRY: Final = struct.Struct("II68xI20xI")
"""TLB_CONTROL, the virtual interrupt, EVENTINJ and the clean bits."""
_ENTRY_OFFSET: Final = 0x5C
_INVALID: Final = int(SvmExit.INVALID)
_MASK64: Final = (1 << 64) - 1
_KINDS: Final = {
    EventType.INTERRUPT: EventKind.EXTERNAL,
    EventType.NMI: EventKind.NMI,
    EventType.EXCEPTION: EventKind.EXCEPTION,
    EventType.SOFTWARE: EventKind.SOFTWARE_INT,
}
_TYPES: Final = {
    EventKind.EXTERNAL: EventType.INTERRUPT,
    EventKind.NMI: EventType.NMI,
    EventKind.EXCEPTION: EventType.EXCEPTION,
    EventKind.ICEBP: EventType.EXCEPTION,
    EventKind.SOFTWARE_INT: EventType.SOFTWARE,
    EventKind.INT3: EventType.EXCEPTION,
    EventKind.INTO: EventType.EXCEPTION,
}


class Svm:
    """The virtualization extension of one processor.

    ``current``: the VMCB on it, or None. ``refused``: why the last VMRUN ended in VMEXIT_INVALID.
    """

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._memory = processor.memory
        self.current: int | None = None
        self.refused = ""
        self._words = self._control = memoryview(b"").cast("B")
        self._registers32 = processor.engine.words32
        self._serve: Callable[[int], bool] = nobody
        self._virtual_interrupt = False

    def vmrun(self, vmcb: int, serve: Callable[[int], bool] = nobody) -> int:
        """Run the guest of the VMCB at host-physical ``vmcb`` until #VMEXIT; give the exit code.

        serve: the monitor's exit handler, called with the exit code. True has VMRUN again at once: as a loop
        around ``vmrun`` would, in a third of the time.

        Gives STOPPED, with nothing written, when the processor was asked to stop: to the monitor that is the
        moment of a physical interrupt. Gives VMEXIT_INVALID, with ``refused`` set, for a VMCB that VMRUN does
        not accept.
        """
        if vmcb != self.current and not self._load(vmcb):
            return self._refuse(vmcb)
        exits, engine, self._serve = self._processor.exits, self._processor.engine, serve
        exits.owner, exits.monitor, exits.vmrun = self._exit, serve, self._again
        engine.serve_plain_exits(vmcb)
        try:
            code = self._enter(vmcb)
            if code is not None and not self._exit(code):
                return code
            return self._processor.run()
        finally:
            exits.owner = nobody
            engine.serve_plain_exits(None)

    def _enter(self, vmcb: int) -> int | None:
        """Do what VMRUN does at its start; give the exit that came of it, if any."""
        words, processor = self._words, self._processor
        if words[_CLEAN] & 0xFFFFFFFF != ALL_CLEAN or words[_ASID_TLB] >> 32:
            self.refused = refusal(*self._areas(vmcb), self._memory.size)
            if self.refused:
                processor.during, processor.info1, processor.info2 = None, 0, 0
                return _INVALID
            self._load_controls(vmcb)
        if words[_INT_CTL] & _V_IRQ:
            processor.engine.request_window(True)
            self._virtual_interrupt = True
        elif self._virtual_interrupt:
            processor.engine.request_window(False)
            self._virtual_interrupt = False
        return self._inject(words[_EVENTINJ]) if words[_EVENTINJ] & _VALID else None

    def _exit(self, code: int | None) -> bool:
        """#VMEXIT (APM2 15.6): fill the exit fields and ask the monitor; True when its guest runs again.

        helper.c has the same for exits that are their code alone.
        """
        processor = self._processor
        while code is not None:
            during = processor.during
            _EXIT.pack_into(
                self._control,
                _EXIT_OFFSET,
                self._registers32[HFLAGS] >> 3 & _SHADOW,
                code & _MASK64,
                processor.info1,
                processor.info2,
                0 if during is None else _interrupted(during),
            )
            if not self._serve(code):
                return False
            tlb, interrupt, injected, clean = _ENTRY.unpack_from(self._control, _ENTRY_OFFSET)
            if (
                clean == ALL_CLEAN
                and not (tlb or interrupt & _V_IRQ or injected & _VALID)
                and not self._virtual_interrupt
            ):
                return True  # as nearly always: VMRUN finds nothing that it did not know
            code = self._enter(self.current or 0)
        return True

    def _again(self) -> bool:
        """VMRUN again, after an exit that the compiled helper served with the monitor."""
        return self._exit(self._enter(self.current or 0))

    def _inject(self, raw: int) -> int | None:
        """Deliver EVENTINJ (APM2 15.20); give the exit that came of it, if any."""
        self._words[_EVENTINJ] = raw & ~_VALID
        injection = EventInjection(raw)
        if injection.TYPE not in _KINDS or (injection.TYPE == EventType.EXCEPTION and injection.VECTOR > 31):
            self.refused = f"EVENTINJ {raw:#x} has a type or vector that does not exist"
            return _INVALID
        return self._processor.inject(event_of(raw, self._processor))

    def _areas(self, vmcb: int) -> tuple[VmcbControl, VmcbSave]:
        return VmcbControl(self._memory.bytes, vmcb), VmcbSave(self._memory.bytes, vmcb)

    def _load_controls(self, vmcb: int) -> None:
        words = self._words
        crs, drs, exceptions, misc1, misc2 = _CONTROLS.unpack_from(self._memory.bytes, vmcb)
        root = words[_NESTED_CR3] if words[_NESTED_CTL] & 1 else None
        self._processor.set_intercepts(exceptions, misc2 << 32 | misc1, crs, drs, root)
        self._processor.msr_map = words[_MSRPM]
        words[_CLEAN] = words[_CLEAN] & ~0xFFFFFFFF | ALL_CLEAN

    def _load(self, vmcb: int) -> bool:
        """Change worlds: keep the old guest's state in its VMCB and take the new one's (APM2 15.5.1).

        False, with nothing changed, for a VMCB that is not accepted; ``refused`` says why.
        """
        if vmcb % 0x1000 or not 0 <= vmcb < self._memory.size:
            self.refused = f"the VMCB's address {vmcb:#x} is no page of memory"
            return False
        control, save = self._areas(vmcb)
        self.refused = refusal(control, save, self._memory.size)
        if self.refused:
            return False
        self.write_back()
        self._attach(vmcb)
        core = self._processor.core
        core.load(read_save_area(save, core.state()))
        if control.interrupt_state & _SHADOW:
            core.begin_shadow()
        self._load_controls(vmcb)
        return True

    def adopt(self, vmcb: int) -> None:
        """Take the registers that are on the processor now for those of the guest of ``vmcb``."""
        self._attach(vmcb)
        self._load_controls(vmcb)

    def _attach(self, vmcb: int) -> None:
        self.current = vmcb
        self._control = self._memory.bytes[vmcb : vmcb + 0x400]
        self._words = self._control.cast("Q")

    def _refuse(self, vmcb: int) -> int:
        if vmcb % 0x1000 == 0 and 0 <= vmcb < self._memory.size:
            _REFUSAL.pack_into(self._memory.bytes, vmcb + _REFUSAL_OFFSET, _INVALID & _MASK64, 0, 0)
        return _INVALID

    def write_back(self) -> None:
        """Bring the current VMCB's save area and interrupt shadow (APM2 15.21.5) up to date."""
        if self.current is not None:
            control, save = self._areas(self.current)
            core = self._processor.core
            write_save_area(save, core.state())
            control.interrupt_state = _SHADOW if core.interrupt_shadow else 0

    def forget(self, vmcb: int) -> None:
        """Drop the VMCB from the processor without writing it back: its memory goes to someone else."""
        if self.current == vmcb:
            self.current = None


def event_of(raw: int, processor: Processor) -> Event:
    """Give the event in EVENTINJ or EXITINTINFO; the address of a page fault is in CR2."""
    injection = EventInjection(raw)
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
