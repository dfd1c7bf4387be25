"""From SVM's exit codes to exits: what each #VMEXIT of the processor is in the monitor's vocabulary.

Sections are those of AMD APM vol. 2, rev. 3.42, appendix C.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import PageFaultError, Vector
from vlab.machine.processor import Processor
from vlab.vmm import exits
from vlab.vmm.exits import HardwareExit

_FETCH: Final = PageFaultError.I.mask
_EAX, _ECX = 0, 2  # among the 32-bit words of the register file


def ends_block(exit_: HardwareExit) -> bool:
    """Whether the exit is between two blocks in any case: the engine ends one behind the instruction, or
    could not fetch the first instruction of the next.
    """
    match exit_:
        case exits.PageFault(code=code):
            return bool(code & _FETCH)
        case exits.ControlRegisterAccess(write=write):
            return bool(write)
        case exits.InvalidatePage():
            return True
        case _:
            return False


def _decode_exception(vector: int) -> Callable[[Processor], HardwareExit]:
    if vector == Vector.PF:
        return lambda processor: exits.PageFault(processor.info2, processor.info1)
    return lambda processor: exits.ExceptionExit(vector, processor.info1)


# The same few of these come again and again, and making an exit costs more than looking it up.
_CPUIDS: Final[dict[tuple[int, int], HardwareExit]] = {}
_CPUIDS_KEPT: Final = 256
_msr_access = lru_cache(maxsize=256)(exits.MsrAccess)


def _decode_cpuid(processor: Processor) -> HardwareExit:
    registers = processor.registers32
    key = registers[_EAX], registers[_ECX]
    exit_ = _CPUIDS.get(key)
    if exit_ is None:
        if len(_CPUIDS) >= _CPUIDS_KEPT:
            _CPUIDS.clear()
        exit_ = _CPUIDS[key] = exits.Cpuid(*key)
    return exit_


def _make_decoders() -> dict[int, Callable[[Processor], HardwareExit]]:
    """For each SVM exit code, how the exit is made of what the processor left."""

    def always(exit_: HardwareExit) -> Callable[[Processor], HardwareExit]:
        return lambda _processor: exit_

    table: dict[int, Callable[[Processor], HardwareExit]] = {
        SvmExit.CPUID: _decode_cpuid,
        SvmExit.HLT: always(exits.Halt()),
        SvmExit.VINTR: always(exits.InterruptWindow()),
        SvmExit.MSR: lambda p: _msr_access(p.core.words[1] & 0xFFFFFFFF, p.info1),
        SvmExit.NPF: lambda p: exits.NestedPageFault(p.info2, p.info1),
        SvmExit.INVLPG: lambda p: exits.InvalidatePage(p.info1),
        SvmExit.RDTSC: always(exits.TimeStampRead(0)),
        SvmExit.RDTSCP: always(exits.TimeStampRead(1)),
        SvmExit.VMMCALL: lambda p: exits.Hypercall(p.core.words[0] & 0xFFFFFFFF),
        SvmExit.SHUTDOWN: always(exits.TripleFault()),
    }
    for register in range(16):
        table[SvmExit.READ_CR0 + register] = always(exits.ControlRegisterAccess(register, 0))
        table[SvmExit.WRITE_CR0 + register] = always(exits.ControlRegisterAccess(register, 1))
    for vector in range(32):
        table[SvmExit.EXCP_DE + vector] = _decode_exception(vector)
    for code in SvmExit:
        table.setdefault(code, always(exits.PrivilegedInstruction(code)))
    return table


DECODERS: Final = _make_decoders()
"""For each SVM exit code, the function that makes the exit of what the processor left."""
