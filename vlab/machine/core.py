"""The architectural processor over the live register file: what delivery, monitors and snapshots work on.

The emulator keeps some registers in a form of its own: arithmetic flags lazily, segment attributes as the
high half of a descriptor, and a digest of the mode (``hflags``) that steers translation. This class hides
that. Whoever changes CR0, CR4, EFER or a segment through it calls ``refresh`` before the processor runs on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from vlab.isa.paging import PagingControls
from vlab.isa.state import GENERAL_REGISTERS, CpuState, Mode, Segment, TableRegister
from vlab.machine import registers as reg
from vlab.machine.engine import Engine
from vlab.machine.mmu import Mmu

SEGMENT_NAMES: Final = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
_PLACES: Final = {name: reg.SEGMENTS + reg.SEGMENT_SIZE * n for n, name in enumerate(SEGMENT_NAMES)}
_GDTR: Final = reg.SEGMENTS + 8 * reg.SEGMENT_SIZE
_IDTR: Final = _GDTR + reg.SEGMENT_SIZE
_CS_FLAGS: Final = (_PLACES["cs"] + 20) // 4  # as indexes of 32-bit words
_SS_FLAGS: Final = (_PLACES["ss"] + 20) // 4
CS_BASE: Final = (_PLACES["cs"] + 8) // 8
"""Index of the code segment's base among the 64-bit words of the register file."""
_BASES: Final = tuple((_PLACES[name] + 8) // 8 for name in ("ds", "es", "ss"))

# The digest. What it could hold of RFLAGS (TF, IOPL, VM) stays out: the emulator joins them in itself, and a
# copy here would outlive the flag.
_CPL, _CS32, _SS32, _ADDSEG, _PE_H = 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7
_MP_SHIFT, _LMA_H, _CS64, _OSFXSR = 8, 1 << 14, 1 << 15, 1 << 22
_COPIED: Final = ~(
    _CPL | _CS32 | _SS32 | _ADDSEG | _PE_H | 0xE00 | _LMA_H | _CS64 | _OSFXSR | 0x3100 | 1 << 17
)
_D_FLAG, _L_FLAG, _DPL_SHIFT = 1 << 22, 1 << 21, 13
_LMA, _VM, _PE, _TF = 1 << 10, 1 << 17, 1, 1 << 8

_SVME: Final = 1 << 12
"""EFER.SVME stays set underneath, whatever the processor that is shown has (APM2 15.5.1)."""
_DR6_FIXED, _DR7_FIXED, _MASK32 = 0xFFFF0FF0, 1 << 10, 0xFFFFFFFF
_BUSY: Final = 2
_PRESENT: Final = 1 << 7

_MSR_FIELDS: Final = (
    "star", "lstar", "cstar", "sfmask", "kernel_gs_base", "sysenter_esp", "sysenter_eip", "pat",
)  # fmt: skip


def _word(index: int) -> int:
    """Make an attribute of the 64-bit word ``index``."""

    def get(self: LiveCore) -> int:
        return self.words[index]

    def put(self: LiveCore, value: int) -> None:
        self.words[index] = value

    return cast("int", property(get, put))  # what it is for whoever uses the class


def _msr(name: str) -> int:
    """Make an attribute of a model-specific register."""

    def get(self: LiveCore) -> int:
        return self.words[self._msrs[name]]

    def put(self: LiveCore, value: int) -> None:
        self.words[self._msrs[name]] = value

    return cast("int", property(get, put))  # what it is for whoever uses the class


class LiveCore:
    """One processor's registers and linear memory, live.

    ``on_debug_registers()`` is called when one of DR0 to DR7 was set.
    """

    def __init__(self, engine: Engine, mmu: Mmu) -> None:
        self.engine = engine
        self.mmu = mmu
        self._memory = engine.memory
        self.words = engine.words
        self.words32 = engine.words32
        self._bytes = engine.bytes
        self._msrs = {name: offset // 8 for name, offset in engine.layout.msrs.items()}
        self.on_debug_registers: Callable[[], None] = lambda: None
        self._sysenter_cs = self._msrs["sysenter_esp"] - 1
        self._protection_keys = engine.layout.msrs["pat"] // 4 + reg.PKRU_BEHIND_PAT
        self._dr = (engine.layout.vmcb + reg.DR) // 8

    rip = _word(reg.RIP)
    rsp = _word(4)
    cr0 = _word(reg.CR0)
    cr2 = _word(reg.CR2)
    cr3 = _word(reg.CR3)
    cr4 = _word(reg.CR4)
    efer = _msr("efer")
    star = _msr("star")
    lstar = _msr("lstar")
    cstar = _msr("cstar")
    sfmask = _msr("sfmask")
    kernel_gs_base = _msr("kernel_gs_base")
    sysenter_esp = _msr("sysenter_esp")
    sysenter_eip = _msr("sysenter_eip")
    pat = _msr("pat")
    tsc_aux = _msr("tsc_aux")

    @property
    def sysenter_cs(self) -> int:
        """MSR SYSENTER_CS."""
        return self.words[self._sysenter_cs] & 0xFFFFFFFF

    @sysenter_cs.setter
    def sysenter_cs(self, value: int) -> None:
        self.words[self._sysenter_cs] = value & 0xFFFFFFFF

    @property
    def pkru(self) -> int:
        """PKRU: what the protection keys of user pages forbid (APM2 5.6.7)."""
        return self.words32[self._protection_keys]

    @pkru.setter
    def pkru(self, value: int) -> None:
        self.words32[self._protection_keys] = value

    def debug_register(self, number: int) -> int:
        """Give DR0 to DR3, DR6 or DR7."""
        return self.words[self._dr + number]

    def set_debug_register(self, number: int, value: int) -> None:
        """Set DR0 to DR3, DR6 or DR7; the fixed bits of the last two read as 1 (APM2 13.1.1)."""
        if number == 6:
            value = value & _MASK32 | _DR6_FIXED
        elif number == 7:
            value = value & _MASK32 | _DR7_FIXED
        self.words[self._dr + number] = value
        self.on_debug_registers()

    @property
    def dr6(self) -> int:
        """Debug status."""
        return self.words[self._dr + 6]

    @dr6.setter
    def dr6(self, value: int) -> None:
        self.set_debug_register(6, value)

    @property
    def dr7(self) -> int:
        """Debug control."""
        return self.words[self._dr + 7]

    @dr7.setter
    def dr7(self, value: int) -> None:
        self.set_debug_register(7, value)

    # --- flags and privilege ----------------------------------------------------------------------------

    @property
    def rflags(self) -> int:
        """RFLAGS. It can be read in a port or window callback too, but not set there."""
        return self.read_flags()

    @rflags.setter
    def rflags(self, value: int) -> None:
        self.write_flags(value)

    def read_flags(self) -> int:
        """Give what the processor holds as RFLAGS."""
        return self.engine.read_flags() if self.engine.running else self.words[reg.EFLAGS]

    def write_flags(self, value: int) -> None:
        """Set what the processor holds as RFLAGS."""
        self.words32[reg.CC_OP_WORD] = reg.CC_OP_EFLAGS
        self.words32[reg.DF_WORD] = _MASK32 if value & reg.DF else 1
        self.words[reg.CC_SRC] = value & reg.ARITHMETIC
        if self.engine.running:
            value &= ~(reg.ARITHMETIC | reg.DF)
        self.words[reg.EFLAGS] = value | 2

    @property
    def interrupts_enabled(self) -> bool:
        """RFLAGS.IF, without an interrupt shadow."""
        return bool(self.words[reg.EFLAGS] & 0x200) and not self.words32[reg.HFLAGS] & reg.INHIBIT

    @property
    def interrupt_shadow(self) -> bool:
        """Whether the next instruction follows STI or a load of SS (APM2 15.21.5)."""
        return bool(self.words32[reg.HFLAGS] & reg.INHIBIT)

    def begin_shadow(self) -> None:
        """Have the next instruction be in an interrupt shadow."""
        self.words32[reg.HFLAGS] |= reg.INHIBIT

    def end_shadow(self) -> None:
        """End the interrupt shadow: an instruction was executed on the guest's behalf."""
        self.words32[reg.HFLAGS] &= ~reg.INHIBIT

    @property
    def single_stepping(self) -> bool:
        """RFLAGS.TF."""
        return bool(self.words[reg.EFLAGS] & _TF)

    @property
    def cpl(self) -> int:
        """The current privilege level."""
        return self.words32[reg.HFLAGS] & _CPL

    def set_cpl(self, cpl: int) -> None:
        """Enter privilege level ``cpl``; SS keeps it in its hidden part."""
        flags = self.words32[_SS_FLAGS]
        self.words32[_SS_FLAGS] = flags & ~(3 << _DPL_SHIFT) | cpl << _DPL_SHIFT
        self.words32[reg.HFLAGS] = self.words32[reg.HFLAGS] & ~_CPL | cpl

    @property
    def mode_code(self) -> int:
        """The operating mode as its place in ``isa.state.Mode``: 0 real to 5 64-bit."""
        hflags = self.words32[reg.HFLAGS]
        if hflags & _LMA_H:
            return 5 if hflags & _CS64 else 4
        if not hflags & _PE_H:
            return 0
        if self.words[reg.EFLAGS] & _VM:
            return 1
        return 3 if hflags & _CS32 else 2

    @property
    def mode(self) -> Mode:
        """The operating mode."""
        return tuple(Mode)[self.mode_code]

    def refresh(self) -> None:
        """Work out the digest of the mode anew."""
        words32, words = self.words32, self.words
        hflags = words32[reg.HFLAGS] & _COPIED & 0xFFFFFFFF
        cr0, flags, cs = words[reg.CR0], words[reg.EFLAGS], words32[_CS_FLAGS]
        if cr0 & _PE:
            hflags |= _PE_H | words32[_SS_FLAGS] >> _DPL_SHIFT & 3
        hflags |= (cr0 & 0xE) << _MP_SHIFT
        if words[reg.CR4] & 1 << 9:
            hflags |= _OSFXSR
        if words[self._msrs["efer"]] & _LMA:
            hflags |= _LMA_H
        if hflags & _LMA_H and cs & _L_FLAG:
            hflags |= _CS32 | _SS32 | _CS64
        else:
            hflags |= _CS32 if cs & _D_FLAG else 0
            hflags |= _SS32 if words32[_SS_FLAGS] & _D_FLAG else 0
            based = any(words[place] for place in _BASES)
            if not cr0 & _PE or flags & _VM or not hflags & _CS32 or based:
                hflags |= _ADDSEG
        words32[reg.HFLAGS] = hflags

    # --- segments and tables ----------------------------------------------------------------------------

    def segment(self, name: str) -> Segment:
        """Give a segment register: es cs ss ds fs gs ldtr tr."""
        selector, base, limit, flags = reg.SEGMENT.unpack_from(self._bytes, _PLACES[name])
        attributes = flags >> 8 & 0xFF | flags >> 12 & 0xF00
        return Segment(selector, base, limit, attributes | _BUSY if name == "tr" else attributes)

    def set_segment(self, name: str, segment: Segment) -> None:
        """Load a segment register with its hidden part.

        The emulator ends the process over a TR that holds no TSS, and reads through an LDTR that is not
        present. Both are kept with limit 0 instead, so that their use faults.
        """
        attributes = segment.attributes
        if name == "tr":
            attributes &= ~_BUSY  # kept as it was before LTR set the bit
            if attributes & 0x97 != 0x81:
                segment, attributes = Segment(segment.selector, 0, 0), 0x89
        elif name == "ldtr" and not attributes & _PRESENT:
            segment = Segment(segment.selector, segment.base, 0)
        flags = (attributes & 0xFF) << 8 | (attributes & 0xF00) << 12
        reg.SEGMENT.pack_into(
            self._bytes, _PLACES[name], segment.selector, segment.base, segment.limit, flags
        )

    @property
    def gdtr(self) -> TableRegister:
        """The global descriptor table register."""
        return self._table(_GDTR)

    @gdtr.setter
    def gdtr(self, table: TableRegister) -> None:
        reg.SEGMENT.pack_into(self._bytes, _GDTR, 0, table.base, table.limit, 0)

    @property
    def idtr(self) -> TableRegister:
        """The interrupt descriptor table register."""
        return self._table(_IDTR)

    @idtr.setter
    def idtr(self, table: TableRegister) -> None:
        reg.SEGMENT.pack_into(self._bytes, _IDTR, 0, table.base, table.limit, 0)

    def _table(self, place: int) -> TableRegister:
        _, base, limit, _ = reg.SEGMENT.unpack_from(self._bytes, place)
        return TableRegister(base, limit)

    def get_gpr(self, index: int) -> int:
        """Give general register ``index``, 0 to 15 in instruction encoding order."""
        return self.words[index]

    def set_gpr(self, index: int, value: int) -> None:
        """Set general register ``index``."""
        self.words[index] = value

    # --- linear memory ----------------------------------------------------------------------------------

    @property
    def paging(self) -> PagingControls:
        """What steers translation now; the supervisor's implicit accesses ignore RFLAGS.AC."""
        words = self.words
        return PagingControls.from_registers(
            words[reg.CR0], words[reg.CR3], words[reg.CR4], words[self._msrs["efer"]]
        )

    def read(self, linear: int, size: int, *, user: bool = False) -> int:
        """Read ``size`` bytes at a linear address, little-endian; raises CpuFault."""
        if (linear & 0xFFF) + size <= 0x1000:
            hpa = self.mmu.translate(linear, self.paging, user=user)
            return self._memory.read(hpa, size)
        return int.from_bytes(self.read_bytes(linear, size, user=user), "little")

    def read_bytes(self, linear: int, size: int, *, user: bool = False, fetch: bool = False) -> bytes:
        """Read a run of bytes at a linear address; raises CpuFault."""
        out, paging = bytearray(), self.paging
        while len(out) < size:
            here = linear + len(out)
            step = min(size - len(out), 0x1000 - (here & 0xFFF))
            hpa = self.mmu.translate(here, paging, user=user, fetch=fetch)
            out += self._memory.read_bytes(hpa, step)
        return bytes(out)

    def write(self, linear: int, size: int, value: int, *, user: bool = False) -> None:
        """Write ``size`` bytes at a linear address, little-endian; all or nothing. Raises CpuFault."""
        data, paging, done = value.to_bytes(size, "little"), self.paging, 0
        runs = []
        while done < size:
            here = linear + done
            step = min(size - done, 0x1000 - (here & 0xFFF))
            runs.append((self.mmu.translate(here, paging, write=True, user=user), done, step))
            done += step
        for hpa, start, step in runs:
            self._memory.write_bytes(hpa, data[start : start + step])

    # --- whole states -----------------------------------------------------------------------------------

    def load(self, state: CpuState) -> None:
        """Take over a whole architectural state and forget all translations."""
        for index, name in enumerate(GENERAL_REGISTERS):
            self.words[index] = getattr(state, name)
        for name in SEGMENT_NAMES:
            self.set_segment(name, getattr(state, name))
        self.gdtr, self.idtr = state.gdtr, state.idtr
        self.cr0, self.cr2, self.cr3, self.cr4 = state.cr0, state.cr2, state.cr3, state.cr4
        self.efer = state.efer | _SVME
        self.dr6, self.dr7 = state.dr6, state.dr7
        for name in (*_MSR_FIELDS, "sysenter_cs"):
            setattr(self, name, getattr(state, name))
        self.rip, self.rflags = state.rip, state.rflags
        self.end_shadow()
        self.refresh()
        self.engine.flush_tlb()

    def state(self) -> CpuState:
        """Give a copy of the architectural state."""
        state = CpuState(rip=self.rip, rflags=self.rflags)
        for name, value in zip(GENERAL_REGISTERS, self.words[:16], strict=True):
            setattr(state, name, value)
        for name in SEGMENT_NAMES:
            setattr(state, name, self.segment(name))
        state.gdtr, state.idtr = self.gdtr, self.idtr
        state.cr0, state.cr2, state.cr3, state.cr4 = self.cr0, self.cr2, self.cr3, self.cr4
        state.efer = self.efer & ~_SVME
        state.dr6, state.dr7 = self.dr6, self.dr7
        for name in (*_MSR_FIELDS, "sysenter_cs"):
            setattr(state, name, getattr(self, name))
        return state
