"""Microcode: what the processor does by itself at an exit that its owner did not ask for.

Some exits stand for hardware that the emulator lacks (delivery through the IDT, system calls, the time stamp
counter), others guard it against values that it would take and should not (control registers, LTR). Each
function either completes the instruction, or raises its fault, and gives None; or it gives the SVM exit code
with which ``Processor.run`` ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from vlab.isa.control import CR4
from vlab.isa.msr import Msr
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.machine import control_registers, engine, system_calls
from vlab.machine.breakpoints import BREAKPOINT
from vlab.machine.core import LiveCore
from vlab.machine.cpu import FETCH_FROM_WINDOW
from vlab.machine.decode_assist import INVD, WRITE_CR, SystemInstruction
from vlab.machine.faults import CpuFault, Event, EventKind
from vlab.machine.instructions import software_interrupt
from vlab.machine.port_gate import PORT_FAULT
from vlab.machine.stops import WRONG_RING
from vlab.machine.task_register import load_task_register

if TYPE_CHECKING:
    from vlab.machine.processor import Processor

Handler = Callable[["Processor", int], int | None]

ENGINE_EXIT: Final = 0x100
"""What the engine adds to SVM exit codes."""
_OWN_MSR: Final = -7  # an MSR access that is none of the owner's
_AGAIN: Final = -8  # the emulator is to try once more

MISC_MANDATORY: Final = sum(
    1 << code - SvmExit.INTR
    for code in (
        SvmExit.VINTR, SvmExit.RDTSC, SvmExit.RDPMC, SvmExit.CPUID, SvmExit.SWINT, SvmExit.HLT, SvmExit.MSR,
        SvmExit.SHUTDOWN, SvmExit.VMRUN, SvmExit.VMMCALL, SvmExit.VMLOAD, SvmExit.VMSAVE, SvmExit.STGI,
        SvmExit.CLGI, SvmExit.SKINIT, SvmExit.RDTSCP, SvmExit.ICEBP, SvmExit.MONITOR, SvmExit.MWAIT,
        SvmExit.INVLPGA, SvmExit.RSM, SvmExit.TR_WRITE,
    )
)  # fmt: skip
"""Intercepts of words 3 and 4 of the VMCB that the microcode needs whatever the owner wants."""
CR_MANDATORY: Final = (1 << 0 | 1 << 4 | 1 << 8) << 16 | 1 << 8
"""Writes of CR0, CR4 and CR8, and reads of CR8."""
DR_MANDATORY: Final = 0xFF << 16
"""Writes of debug registers."""

_LAST_COUNTER: Final = 3
_V86: Final = 1  # LiveCore.mode_code
_ICEBP: Final = b"\xf1"
_SELECTIVE: Final = 0xA
"""The bits of CR0 whose change is no CR0_SEL_WRITE: TS and MP (APM2 15.8.1)."""


def _deliver_exception(processor: Processor, number: int) -> int | None:
    return processor.inject(processor.exception(number - ENGINE_EXIT - SvmExit.EXCP_DE))


def _undefined(processor: Processor, _number: int) -> int | None:
    return processor.raise_fault(CpuFault(Vector.UD))


def _pass_on(_processor: Processor, number: int) -> int | None:
    return number - ENGINE_EXIT


def _failed(processor: Processor, _number: int) -> int | None:
    if processor.engine.error == FETCH_FROM_WINDOW:
        return _undefined(processor, _number)  # an open bus reads as FF FF, which is no instruction
    return processor.give_up(f"the emulator gave up with error {processor.engine.error}")


def _refused_port(processor: Processor, _number: int) -> int | None:
    return processor.raise_fault(processor.port_gate.take_fault())


def _breakpoint(processor: Processor, _number: int) -> int | None:
    """#DB for a breakpoint that was met (APM2 13.1.1.3); the lowest bits of DR6 say which."""
    core = processor.core
    core.dr6 = core.dr6 & ~0xF | processor.breakpoints.met
    return processor.raise_fault(CpuFault(Vector.DB))


def _wrong_ring(processor: Processor, _number: int) -> int | None:
    """The emulator let the program into a ring: take it back to that of CS, or end what cannot be undone."""
    core = processor.core
    if core.mode_code == _V86:
        return processor.give_up(
            "IRET outside ring 0 led to virtual-8086 mode, which it does on no processor"
        )
    core.set_cpl(core.segment("cs").selector & 3)
    return None


def _nested_fault(processor: Processor, number: int) -> int | None:
    processor.qualify(number)
    return int(SvmExit.NPF)


# --- instructions -------------------------------------------------------------------------------------------


def _system_call(processor: Processor, number: int) -> int | None:
    try:
        (system_calls.syscall if number == engine.SYSCALL else system_calls.sysenter)(processor.core)
    except CpuFault as fault:
        return processor.raise_fault(fault)
    processor.core.refresh()
    processor.completed()
    return None


def _cpuid(processor: Processor, _number: int) -> int | None:
    words = processor.core.words
    words[0], words[3], words[1], words[2] = processor.identity.cpuid(
        words[0] & 0xFFFFFFFF, words[1] & 0xFFFFFFFF
    )
    processor.skip(2)
    return None


def _time_stamp(processor: Processor, number: int) -> int | None:
    processor.read_time_stamp(with_aux=number == ENGINE_EXIT + SvmExit.RDTSCP)
    return None


def _performance_counter(processor: Processor, _number: int) -> int | None:
    """RDPMC: the counters of the MSRs, which count nothing; kernels read them at power-off."""
    core, words = processor.core, processor.core.words
    number = words[1] & 0xFFFFFFFF
    if number > _LAST_COUNTER or (core.cpl and not core.cr4 & CR4.PCE.mask):
        return processor.raise_fault(CpuFault(Vector.GP, 0))
    value = processor.msrs.read(Msr.PERF_CTR0 + number) or 0
    words[0], words[2] = value & 0xFFFFFFFF, value >> 32 & 0xFFFF
    processor.skip(2)
    return None


def _msr(processor: Processor, _number: int) -> int | None:
    if not processor.access_msr(write=bool(processor.engine.error_code())):
        return processor.raise_fault(CpuFault(Vector.GP, 0))
    return None


def _software_interrupt(processor: Processor, _number: int) -> int | None:
    core = processor.core
    return processor.inject(software_interrupt(processor.fetch(), long_mode=core.mode_code == 5))


def _icebp(processor: Processor, _number: int) -> int | None:
    length = processor.code.prefix_count() + 1
    return processor.inject(Event(EventKind.ICEBP, Vector.DB, instruction_length=length))


def _nothing(processor: Processor, _number: int) -> int | None:
    """INVD and WBINVD: there are no caches to write back."""
    processor.skip(2)
    return None


# --- control, debug and task registers ----------------------------------------------------------------------


def _write_cr0(processor: Processor, _number: int) -> int | None:
    """MOV CR0, LMSW or CLTS: the exit does not tell which (APM2 15.8.1)."""
    core, instruction = processor.core, processor.code.decode()
    if instruction is None:
        return _undefined(processor, _number)
    if instruction.is_clts:
        return _carry_out(processor, lambda: control_registers.clear_task_switched(core), instruction)
    if instruction.opcode != WRITE_CR:
        return _carry_out(
            processor,
            lambda: control_registers.load_machine_status_word(core, _word_operand(core, instruction)),
            instruction,
        )
    value = processor.operand(instruction)
    if processor.owns(SvmExit.CR0_SEL_WRITE) and (core.cr0 ^ value) & ~_SELECTIVE:
        return int(SvmExit.CR0_SEL_WRITE)
    return _carry_out(processor, lambda: control_registers.write_cr0(core, value), instruction)


def _write_cr4(processor: Processor, _number: int) -> int | None:
    instruction = processor.code.decode()
    if instruction is None:
        return _undefined(processor, _number)
    value = processor.operand(instruction)
    return _carry_out(processor, lambda: control_registers.write_cr4(processor.core, value), instruction)


def _write_cr8(processor: Processor, _number: int) -> int | None:
    instruction = processor.code.decode()
    if instruction is None:
        return _undefined(processor, _number)
    value = processor.operand(instruction)
    if value > 15:
        return processor.raise_fault(CpuFault(Vector.GP, 0, why="bits 63:4 of CR8 must be 0"))
    return _carry_out(processor, lambda: processor.write_task_priority(value), instruction)


def _read_cr8(processor: Processor, _number: int) -> int | None:
    instruction = processor.code.decode()
    if instruction is None or instruction.register is None:
        return _undefined(processor, _number)
    processor.core.set_gpr(instruction.register, processor.read_task_priority())
    processor.advance(instruction.length)
    return None


def _write_dr(processor: Processor, number: int) -> int | None:
    instruction = processor.code.decode()
    if instruction is None:
        return _undefined(processor, number)
    core, register = processor.core, number - ENGINE_EXIT - SvmExit.WRITE_DR0
    value = processor.operand(instruction)
    return _carry_out(
        processor, lambda: control_registers.write_debug_register(core, register, value), instruction
    )


def _load_tr(processor: Processor, _number: int) -> int | None:
    core, instruction = processor.core, processor.code.decode()
    if instruction is None:
        return _undefined(processor, _number)
    return _carry_out(
        processor, lambda: load_task_register(core, _word_operand(core, instruction)), instruction
    )


def _word_operand(core: LiveCore, instruction: SystemInstruction) -> int:
    """Give a 16-bit operand, from a register or from memory; raises CpuFault."""
    if instruction.linear is not None:
        return core.read(instruction.linear, 2)
    return core.get_gpr(instruction.register or 0) & 0xFFFF


def _carry_out(
    processor: Processor, action: Callable[[], None], instruction: SystemInstruction
) -> int | None:
    """Do ``action`` and go past the instruction, or raise its fault."""
    try:
        action()
    except CpuFault as fault:
        return processor.raise_fault(fault)
    processor.advance(instruction.length)
    return None


# --- exits that several instructions share in the engine ----------------------------------------------------


_RDTSC: Final = b"\x0f\x31"


def _which_time_stamp(processor: Processor) -> int:
    """RDTSC, or RDTSCP: 0F 31 and 0F 01 F9."""
    return ENGINE_EXIT + (SvmExit.RDTSC if processor.code.opcode() == _RDTSC else SvmExit.RDTSCP)


def _which_invalidation(processor: Processor) -> int:
    """WBINVD, or INVD: 0F 09 and 0F 08."""
    instruction = processor.code.decode()
    invd = instruction is not None and instruction.opcode == INVD
    return ENGINE_EXIT + (SvmExit.INVD if invd else SvmExit.WBINVD)


def _which_undefined(processor: Processor) -> int:
    """#UD, or ICEBP, which the engine does not know, or a block that it cannot translate.

    That is for one instruction in it, and all of the block counts as that. An interrupt shadow has the
    engine translate a single instruction, so the others are executed one by one until the one is found.
    """
    if processor.engine.took_abort() and not processor.core.interrupt_shadow:
        processor.core.begin_shadow()
        return _AGAIN
    icebp = processor.fetch()[processor.code.prefix_count() :][:1] == _ICEBP
    return ENGINE_EXIT + (SvmExit.ICEBP if icebp else SvmExit.EXCP_UD)


_AMONG_MEDIA: Final = (b"\x0f\x38\x80", b"\x0f\x38\x81", b"\x0f\x38\x82")
"""INVEPT, INVVPID and INVPCID, which this processor has not."""


def _which_unavailable(processor: Processor) -> int:
    """#NM, or #UD: the engine looks at CR0.TS before it looks whether the instruction is there."""
    code = processor.fetch()[processor.code.prefix_count() :]
    return ENGINE_EXIT + (SvmExit.EXCP_UD if code.startswith(_AMONG_MEDIA) else SvmExit.EXCP_NM)


_EXCEPTION_OPCODES: Final = {b"\xcc": SvmExit.EXCP_BP, b"\xce": SvmExit.EXCP_OF}


def _which_software_interrupt(processor: Processor) -> int:
    """INT n; or INT3 or INTO, which raise exceptions, and are intercepted as these (APM2 15.12)."""
    return ENGINE_EXIT + _EXCEPTION_OPCODES.get(processor.code.opcode()[:1], SvmExit.SWINT)


def _which_msr(processor: Processor) -> int:
    """RDMSR and WRMSR, the owner's or not."""
    return ENGINE_EXIT + SvmExit.MSR if processor.owns_msr() else _OWN_MSR


SHARED: Final[dict[int, Callable[[Processor], int]]] = {
    ENGINE_EXIT + SvmExit.RDTSC: _which_time_stamp,
    ENGINE_EXIT + SvmExit.WBINVD: _which_invalidation,
    ENGINE_EXIT + SvmExit.MSR: _which_msr,
    ENGINE_EXIT + SvmExit.SWINT: _which_software_interrupt,
    ENGINE_EXIT + SvmExit.EXCP_UD: _which_undefined,
    ENGINE_EXIT + SvmExit.EXCP_NM: _which_unavailable,
}
"""For numbers of ``Engine.run`` that stand for several things: what gives the right one."""


# --- the table ----------------------------------------------------------------------------------------------


def _make_table() -> dict[int, Handler]:
    table: dict[int, Handler] = {
        engine.FAILED: _failed,
        engine.SYSCALL: _system_call,
        engine.SYSENTER: _system_call,
        PORT_FAULT: _refused_port,
        _OWN_MSR: _msr,
        _AGAIN: lambda _processor, _number: None,
        BREAKPOINT: _breakpoint,
        WRONG_RING: _wrong_ring,
    }
    by_code: dict[int, Handler] = {
        SvmExit.NPF: _nested_fault,
        SvmExit.HLT: _pass_on,
        SvmExit.VINTR: _pass_on,
        SvmExit.SHUTDOWN: _pass_on,
        SvmExit.CPUID: _cpuid,
        SvmExit.MSR: _msr,
        SvmExit.RDTSC: _time_stamp,
        SvmExit.RDTSCP: _time_stamp,
        SvmExit.RDPMC: _performance_counter,
        SvmExit.SWINT: _software_interrupt,
        SvmExit.ICEBP: _icebp,
        SvmExit.INVD: _nothing,
        SvmExit.WBINVD: _nothing,
        SvmExit.TR_WRITE: _load_tr,
        SvmExit.WRITE_CR0: _write_cr0,
        SvmExit.WRITE_CR0 + 4: _write_cr4,
        SvmExit.WRITE_CR0 + 8: _write_cr8,
        SvmExit.READ_CR0 + 8: _read_cr8,
    }
    for undefined in (
        SvmExit.RSM, SvmExit.VMRUN, SvmExit.VMMCALL, SvmExit.VMLOAD, SvmExit.VMSAVE, SvmExit.STGI,
        SvmExit.CLGI, SvmExit.SKINIT, SvmExit.INVLPGA, SvmExit.MONITOR, SvmExit.MWAIT,
    ):  # fmt: skip
        by_code[undefined] = _undefined
    for vector in range(32):
        by_code[SvmExit.EXCP_DE + vector] = _deliver_exception
    for trap in _EXCEPTION_OPCODES.values():
        by_code[trap] = _software_interrupt
    for register in range(8):
        by_code[SvmExit.WRITE_DR0 + register] = _write_dr
    for code, handler in by_code.items():
        table[ENGINE_EXIT + code] = handler
    return table


MICROCODE: Final = _make_table()
"""Handler of each number that ``Engine.run`` gives."""
