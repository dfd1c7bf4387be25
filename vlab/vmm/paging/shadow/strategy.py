"""Shadow paging for a hardware-assisted monitor: exits in, tables and registers out.

Nested paging is off; CR3 points to tables of ours, and CR0, CR3, CR4 and EFER are the guest's own only in
what it reads and writes. Sections are those of AMD APM vol. 2, rev. 3.42; 15.12.15 and 15.8.1 are the exits.

Two variants differ in what a flush costs, for a guest flushes at every change of process:

- ``lazy``, the big TLB: nothing is caught, a flush throws all tables away, and pages come back one by one as
  they are touched. Simple, and right for a guest with one address space.
- ``write-protect``, the default: the guest's tables are caught when it writes to them (see ``watch``), so
  trees stay right over a flush and are found again at the next CR3 write.

An unmodified Linux comes to its shell with some 16,000 page faults under the second and 201,000 under the
first (``vm.exits.by_reason()``), for it writes CR registers 17,000 times on the way, mostly to patch its own
code in another address space. Its virtual time is the same under both and over nested tables, to the block.

A task switch loads CR3 without a MOV. One through a task gate is an exit; a far JMP or CALL to a task and an
IRET from a nested one are not, on this processor. The ``fence`` around the guest keeps it from running on a
CR3 that it chose, and makes an exit of its first access by it.

What neither variant can follow: page tables in memory that has a second address while address line 20 is held
low.
"""

from __future__ import annotations

from typing import Final

from vlab.errors import UnusableInput
from vlab.isa.control import CR0, EFER
from vlab.isa.msr import Msr
from vlab.isa.paging import Access, Fault, PagingControls
from vlab.isa.state import GENERAL_REGISTERS, CpuState
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import PageFaultError, Vector
from vlab.isa.vmcb import InterceptMisc1, VmcbControl
from vlab.machine.decode_assist import SystemInstruction
from vlab.machine.delivery import Shutdown, deliver, finish_task_switch
from vlab.machine.faults import CpuFault, Event, EventKind
from vlab.machine.mmu import NestedFault
from vlab.vmm.exits import (
    ControlRegisterAccess,
    Exit,
    InvalidatePage,
    MsrAccess,
    NestedPageFault,
    PageFault,
    PrivilegedInstruction,
)
from vlab.vmm.paging.shadow.guest_core import GuestCore
from vlab.vmm.paging.shadow.guest_walk import Unbacked
from vlab.vmm.paging.shadow.registers import VirtualRegisters
from vlab.vmm.paging.shadow.space import ShadowSpace
from vlab.vmm.paging.strategy import PagingHost
from vlab.vmm.story import failed_story, shutdown_story
from vlab.vmm.verdicts import RESUME, End, Inject, Resume, Verdict

VARIANTS: Final = ("write-protect", "lazy")
FRAMES: Final = 1024
"""4 MiB of tables: a Linux with some dozens of processes."""

_CR0, _CR3, _CR4 = 0, 3, 4
_INTERCEPTED: Final = 1 << _CR0 | 1 << _CR3 | 1 << _CR4
_PE, _LMSW, _TS = CR0.PE.mask, 0xF, CR0.TS.mask
_RAX, _RDX = GENERAL_REGISTERS.index("rax"), GENERAL_REGISTERS.index("rdx")
_32: Final = (1 << 32) - 1
_WRITE: Final = PageFaultError.W.mask
_ACCESS_BITS: Final = PageFaultError.W.mask | PageFaultError.U.mask | PageFaultError.I.mask
_ACCESSES: Final = {
    code: Access(bool(code & _WRITE), bool(code & PageFaultError.U.mask), bool(code & PageFaultError.I.mask))
    for code in range(_ACCESS_BITS + 1)
    if not code & ~_ACCESS_BITS
}
_LONG64: Final = 5  # LiveCore.mode_code


class ShadowPaging:
    """The strategy of a monitor on a processor without nested page tables.

    variant: "write-protect" or "lazy". frames: the most that shadow tables may take, in units of 4 KiB.
    Raises UnusableInput. ``registers``: the guest's control registers; ``space``: its shadow.
    """

    name = "shadow"

    def __init__(self, variant: str = VARIANTS[0], *, frames: int = FRAMES) -> None:
        if variant not in VARIANTS:
            raise UnusableInput(f"variant: there is no {variant!r}; choose {' or '.join(VARIANTS)}")
        self.variant: Final = variant
        self._frames = frames
        self.registers = VirtualRegisters()

    def attach(self, host: PagingHost) -> None:
        """Take frames for the tables, which are made as the guest needs them."""
        self._host = host
        self._processor = host.machine.processor
        self.space = self.make_space(host)
        self._guest_core = GuestCore(self._processor, self.space, self.registers)
        host.memory.on_written = self._written
        self._control: VmcbControl | None = None  # on a processor without AMD-V

    def make_space(self, host: PagingHost) -> ShadowSpace:
        """Make the shadow; override it for one that is filled by other rules (see ``filled``)."""
        protect = self.variant == "write-protect"
        return ShadowSpace(host.machine, host.memory, protect=protect, frames=self._frames)

    def configure(self, control: VmcbControl) -> None:
        """Intercept all that has to do with translation. Nested paging is for the fence alone."""
        control.nested_ctl = 1
        control.nested_cr3 = self.space.put_up_fence()
        control.intercept_cr_read |= _INTERCEPTED
        control.intercept_cr_write |= _INTERCEPTED
        control.intercept_exceptions |= 1 << Vector.PF
        control.intercept_misc1 |= InterceptMisc1.INVLPG.mask | InterceptMisc1.TASK_SWITCH.mask
        self._control = control

    def close(self) -> None:
        """Give all frames back."""
        self.space.close()

    # --- statistics ---------------------------------------------------------------------------------------

    @property
    def fills(self) -> int:
        """Page faults that a shadow entry answered."""
        return self.space.fills

    @property
    def flushes(self) -> int:
        """How often the guest asked for all translations to be forgotten."""
        return self.space.flushes

    @property
    def reuses(self) -> int:
        """After how many of those the tree was there already."""
        return self.space.reuses

    @property
    def table_frames(self) -> int:
        """Frames that the tables take now."""
        return self.space.table_frames

    # --- registers ----------------------------------------------------------------------------------------

    def initial_state(self, state: CpuState) -> CpuState:
        """Take over the control registers of ``state``; give it with the real ones."""
        self.registers.load(state.cr0, state.cr3, state.cr4, state.efer)
        self.space.enter(self.registers.controls())
        real = state.copy()
        real.cr0, real.cr3 = self.registers.real_cr0, self.space.root
        real.cr4, real.efer = self.registers.real_cr4, self.registers.real_efer
        return real

    def guest_state(self, state: CpuState) -> CpuState:
        """Give ``state`` with the guest's control registers."""
        seen, registers = state.copy(), self.registers
        seen.cr0, seen.cr3, seen.cr4, seen.efer = registers.cr0, registers.cr3, registers.cr4, registers.efer
        return seen

    def guest_paging(self) -> PagingControls:
        """What the guest's own registers say."""
        return self.registers.controls()

    def save(self) -> dict[str, int]:
        """The guest's control registers; the tables can be made again."""
        guest = self.registers
        return {"cr0": guest.cr0, "cr3": guest.cr3, "cr4": guest.cr4, "efer": guest.efer}

    def restore(self, state: dict[str, int]) -> None:
        """Take the registers back and begin with empty tables: memory is another than they were made from."""
        self.registers.load(state["cr0"], state["cr3"], state["cr4"], state["efer"])
        self.space.restart(self.registers.controls())
        self._follow_fence()
        self._follow_registers(translation=False)

    def rebuild(self) -> None:
        """Begin with empty tables."""
        self.space.forget()
        self._follow_fence()

    def _written(self, gpa: int, size: int) -> None:
        """A device or the host wrote to the guest's memory; perhaps in mid-instruction."""
        self.space.written(gpa, size)
        if self.space.stale:
            self._flush()

    def _follow_registers(self, *, translation: bool) -> None:
        """Put the real registers in place. translation: and forget all translations of the past."""
        core, registers = self._host.core, self.registers
        if translation:
            self.space.switch(registers.controls())
            self._flush()
        core.cr0, core.cr3, core.cr4 = registers.real_cr0, self.space.root, registers.real_cr4
        core.efer = registers.real_efer | core.efer & _SVME
        core.refresh()

    def follow(self, *, translation: bool) -> None:
        """Put the real registers in place. translation: and forget all translations of the past."""
        self._follow_registers(translation=translation)

    def flush(self) -> None:
        """Flush the processor's TLB."""
        self._flush()

    def _flush(self) -> None:
        """Flush the processor's TLB, and what its microcode remembers of code. The fence stands still."""
        self.space.stale = False
        self._processor.engine.flush_tlb()
        self._processor.code.forget()

    def _follow_fence(self) -> None:
        """Flush, after the fence was built anew."""
        fence = self.space.fence
        self._processor.set_nested_root(None if fence is None else fence.root)
        self.space.stale = False

    # --- exits --------------------------------------------------------------------------------------------

    def handle(self, exit_: Exit) -> Verdict | None:
        """Serve page faults, control registers, INVLPG, EFER and task switches."""
        try:
            match exit_:
                case PageFault(address, code):
                    return self._page_fault(address, code)
                case InvalidatePage(address):
                    return self._invalidate(address)
                case ControlRegisterAccess(register, write) if register in (_CR0, _CR3, _CR4):
                    return self._write(register) if write else self._read(register)
                case MsrAccess(Msr.EFER, write):
                    return self._efer(write=bool(write))
                case PrivilegedInstruction(SvmExit.TASK_SWITCH):
                    return self._task_switch()
                case NestedPageFault(address):
                    return self._finish_task_switch(address)
                case _:
                    return None
        except CpuFault as fault:
            return Inject(fault.event())
        except NestedFault as miss:
            return self._failed(f"the processor itself reaches {miss.gpa:#x}, where no memory is")

    def _page_fault(self, address: int, code: int) -> Verdict:
        """A miss in the shadow, or a fault of the guest's own."""
        if self._host.core.cr3 != self.space.root:
            return self._failed(
                f"a task switch has loaded CR3 with {self._host.core.cr3:#x}, where no memory is"
            )
        answer = self._resolve(address, _ACCESSES[code & _ACCESS_BITS])
        if answer is None:
            return RESUME
        if isinstance(answer, Fault):
            return Inject(Event(EventKind.EXCEPTION, Vector.PF, answer.error_code, address))
        return self._host.emulate_device_access(answer.gpa, self._translate)

    def _failed(self, why: str) -> Verdict:
        return End(failed_story(self._processor, why, self._guest_core.state()))

    def _resolve(self, linear: int, access: Access) -> Fault | Unbacked | None:
        answer = self.space.resolve(linear, access)
        if self.space.stale:
            self._flush()
        return answer

    def _translate(self, linear: int, write: bool) -> int:
        """Give the host-physical address of an operand; raises CpuFault, and NestedFault for a device."""
        core = self._host.core
        user = core.cpl == 3
        answer = self._resolve(linear, Access(write, user))
        if isinstance(answer, Fault):
            raise CpuFault(answer.vector, answer.error_code, linear, answer.why)
        if answer is not None:
            raise NestedFault(answer.gpa, _WRITE if write else 0)
        return core.mmu.translate(linear, core.paging, write=write, user=user)

    def _invalidate(self, address: int) -> Verdict:
        """INVLPG (APM2 5.5)."""
        self._processor.advance(self._instruction().length)
        self.space.invalidate(address)
        if self.space.stale:
            self._flush()
        return RESUME

    # --- control registers --------------------------------------------------------------------------------

    def _read(self, number: int) -> Verdict:
        """MOV from CRn, and SMSW (APM3), which stores 16 bits into memory."""
        registers, core = self.registers, self._host.core
        value = registers.cr3 if number == _CR3 else registers.cr0 if number == _CR0 else registers.cr4
        instruction = self._instruction()
        if instruction.register is None:
            assert instruction.linear is not None
            self._store(instruction.linear, value & 0xFFFF)
        else:
            kept = core.get_gpr(instruction.register) & ~0xFFFF if instruction.operand_size == 2 else 0
            core.set_gpr(instruction.register, kept | value & (1 << 8 * instruction.operand_size) - 1)
        self._processor.advance(instruction.length)
        return RESUME

    def _write(self, number: int) -> Verdict:
        """MOV to CRn, CLTS, and LMSW, which sets the low four bits of CR0 but cannot clear PE (APM3)."""
        registers, core, instruction = self.registers, self._host.core, self._instruction()
        if instruction.is_mov:
            value = self._processor.operand(instruction)
        elif instruction.is_clts:
            value = registers.cr0 & ~_TS
        else:
            value = registers.cr0 & ~_LMSW | registers.cr0 & _PE | self._load(instruction) & _LMSW
        if number == _CR3:
            translation = registers.write_cr3(value)
        elif number == _CR4:
            translation = registers.write_cr4(value)
        else:
            translation = registers.write_cr0(value, code64=core.mode_code == _LONG64)
        self._processor.advance(instruction.length)
        self._follow_registers(translation=translation)
        return RESUME

    def _efer(self, *, write: bool) -> Verdict:
        """RDMSR and WRMSR of EFER."""
        words = self._host.core.words
        if not write:
            words[_RAX], words[_RDX] = self.registers.efer & _32, self.registers.efer >> 32
            self._processor.skip(2)
            return RESUME
        translation = self.registers.write_efer((words[_RDX] & _32) << 32 | words[_RAX] & _32)
        self._processor.skip(2)
        self._follow_registers(translation=translation)
        return RESUME

    # --- task switches ------------------------------------------------------------------------------------

    def _task_switch(self) -> Verdict:
        """An event met a task gate (APM2 15.14.1): deliver it in the guest's own terms."""
        event = self._processor.during
        assert event is not None
        assert self._control is not None
        outcome = deliver(self._guest_core, event)
        self._control.exitintinfo = 0  # it is delivered
        self._follow_registers(translation=True)
        if isinstance(outcome, Shutdown):
            return End(shutdown_story(self._processor, outcome.chain, "", self._guest_core.state()))
        return RESUME

    def _finish_task_switch(self, address: int) -> Verdict:
        """The guest left the fence: with a CR3 from a TSS, whose task is there up to its address space."""
        core = self._host.core
        if core.cr3 == self.space.root or self.registers.efer & _LMA:
            return self._failed(f"its shadow tables lead to {address:#x}, which is fenced off")
        try:
            finish_task_switch(self._guest_core)
        finally:
            self._follow_registers(translation=True)
        return _SWITCHED

    # --- instructions -------------------------------------------------------------------------------------

    def _instruction(self) -> SystemInstruction:
        """Give the instruction at RIP, as the decode assists found it (APM2 15.33)."""
        processor = self._processor
        if processor.instruction is None:  # the shadow was emptied since it was fetched
            self._guest_core.reach(processor.linear_rip())
            processor.code.forget()
            processor.instruction = processor.code.decode()
        if processor.instruction is None:
            raise CpuFault(Vector.UD)  # its page is not there any more
        return processor.instruction

    def _load(self, instruction: SystemInstruction) -> int:
        """Read the 16-bit operand of LMSW."""
        if instruction.register is not None:
            return self._host.core.get_gpr(instruction.register)
        assert instruction.linear is not None
        memory = self._host.machine.memory
        return sum(memory.read(self._translate(instruction.linear + n, False), 1) << 8 * n for n in (0, 1))

    def _store(self, linear: int, value: int) -> None:
        """Write 16 bits, all or nothing."""
        memory = self._host.machine.memory
        places = [self._translate(linear + n, True) for n in (0, 1)]
        for n, hpa in enumerate(places):
            memory.write(hpa, 1, value >> 8 * n & 0xFF)


_SVME, _LMA = EFER.SVME.mask, EFER.LMA.mask
_SWITCHED: Final = Resume()
"""Not RESUME, which means that the guest goes on inside its block: here one begins, as without the exit."""
