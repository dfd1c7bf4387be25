"""The sensitive and the privileged instructions of x86, form by form, ready to be executed.

One instruction name stands for several encodings, and whether it traps depends on the form: MOV DS is
harmless where MOV AX, CS is not. ``FORMS`` holds those that differ, with all that is needed to run each, and
``vlab.vmm.matrix`` runs them. Names and encodings follow AMD APM vol. 3, rev. 3.36 (APM3, by instruction).

``step`` is what Robin and Irvine (USENIX Security 2000) say that an instruction violates of their third
requirement: 3B, it reads or changes a sensitive register; 3C, it refers to the protection system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from vlab.isa.msr import Msr
from vlab.isa.svm_exits import SvmExit as Exit

TARGET: Final = 0x11000
"""Where the far transfers lead."""
ENTRY: Final = 0x12000
"""Where SYSCALL and SYSENTER enter the guest's kernel."""
DATA: Final = 0x20000
"""The page that memory operands are in."""
USER_STACK: Final = 0x3A000

# Selectors of the guest's GDT, and the slots of those that its monitor does not hand to the processor.
CODE, STACK, CODE64, USER_CODE, USER_DATA = 0x08, 0x10, 0x18, 0x20, 0x28
TASK, LOCAL_TABLE, CALL_GATE, NEXT_TASK = 0x40, 0x50, 0x60, 0x68

OWN_VECTOR: Final = 0x30
"""A vector that the monitor keeps to itself."""
GIVEN_VECTOR: Final = 0x80
"""A vector whose gate the monitor has made the guest's own, so that system calls need not come through it."""

PORT: Final = 0x80
_FLAGS: Final = 0x202  # IF set
_OUTER: Final = USER_CODE | 3, USER_STACK, USER_DATA | 3


@dataclass(frozen=True, slots=True)
class Form:
    """One encoding.

    instruction: the name under which it is counted. code: its bytes in hexadecimal; TARGET, DATA and their
    like stand for 32-bit addresses. exit_: the AMD-V intercept for it, None when there is none.
    registers, stack (32-bit words from the top, 64-bit ones in 64-bit mode), data (hexadecimal, at DATA): the
    operands. beyond: the state it is about, where that is none that a program could see change here.
    """

    group: str
    instruction: str
    name: str
    code: str
    exit_: Exit | None = None
    step: str = ""
    registers: Mapping[str, int] = field(default_factory=dict)
    stack: tuple[int, ...] = ()
    data: str = ""
    long64: bool = False
    beyond: str = ""

    @property
    def encoding(self) -> bytes:
        """Its bytes."""
        code = self.code
        for name, address in _PLACES.items():
            code = code.replace(name, address.to_bytes(4, "little").hex())
        return bytes.fromhex(code)

    @property
    def reference(self) -> str:
        """Where the manual has it."""
        return f"APM3 {self.instruction}"


_PLACES: Final = {"TARGET": TARGET, "ENTRY": ENTRY, "DATA": DATA}


def _pointer(offset: int, selector: int) -> str:
    return offset.to_bytes(4, "little").hex() + selector.to_bytes(2, "little").hex()


_INTERRUPTS: Final = (
    Form("flags", "CLI", "CLI", "fa"),
    Form("flags", "STI", "STI", "fb"),
    Form("flags", "PUSHF", "PUSHF", "9c", Exit.PUSHF, "3B"),
    Form("flags", "POPF", "POPF", "9d", Exit.POPF, "3B", stack=(_FLAGS,)),
    Form("flags", "HLT", "HLT", "f4", Exit.HLT),
)

_CR0, _CR2, _CR3, _CR4, _CR8 = 0, 2, 3, 4, 8
_CONTROL: Final = (
    Form("control registers", "MOV CRn", "MOV EAX, CR0", "0f20c0", Exit.READ_CR0),
    Form("control registers", "MOV CRn", "MOV CR0, EAX", "0f22c0", Exit.WRITE_CR0, registers={"rax": 0x13}),
    Form("control registers", "MOV CRn", "MOV EAX, CR2", "0f20d0", Exit(Exit.READ_CR0 + _CR2)),
    Form(
        "control registers", "MOV CRn", "MOV CR2, EAX", "0f22d0", Exit(Exit.WRITE_CR0 + _CR2),
        registers={"rax": 0x5000},
    ),
    Form("control registers", "MOV CRn", "MOV EAX, CR3", "0f20d8", Exit.READ_CR3),
    Form("control registers", "MOV CRn", "MOV CR3, EAX", "0f22d8", Exit.WRITE_CR3, registers={"rax": 0x7000}),
    Form("control registers", "MOV CRn", "MOV EAX, CR4", "0f20e0", Exit.READ_CR4),
    Form("control registers", "MOV CRn", "MOV CR4, EAX", "0f22e0", Exit.WRITE_CR4, registers={"rax": 0x90}),
    Form("control registers", "MOV CRn", "MOV RAX, CR8", "440f20c0", Exit.READ_CR8, long64=True),
    Form(
        "control registers", "MOV CRn", "MOV CR8, RAX", "440f22c0", Exit.WRITE_CR8, registers={"rax": 5},
        long64=True,
    ),
    Form("control registers", "CLTS", "CLTS", "0f06", Exit.WRITE_CR0),
    Form("control registers", "LMSW", "LMSW AX", "0f01f0", Exit.WRITE_CR0, registers={"rax": 0x3}),
    Form("control registers", "SMSW", "SMSW EAX", "0f01e0", Exit.READ_CR0, "3B"),
    Form("control registers", "SMSW", "SMSW [mem]", "0f0125DATA", Exit.READ_CR0, "3B"),
    Form("control registers", "MOV DRn", "MOV EAX, DR7", "0f21f8", Exit.READ_DR7),
    Form("control registers", "MOV DRn", "MOV DR7, EAX", "0f23f8", Exit.WRITE_DR7, registers={"rax": 0x500}),
    Form(
        "control registers", "MOV DRn", "MOV DR0, EAX", "0f23c0", Exit.WRITE_DR0, registers={"rax": 0x6000}
    ),
)  # fmt: skip

_TABLES: Final = (
    Form("tables", "LGDT", "LGDT [mem]", "0f0115DATA", Exit.GDTR_WRITE, data="6f00 00300000"),
    Form("tables", "LIDT", "LIDT [mem]", "0f011dDATA", Exit.IDTR_WRITE, data="ff07 00380000"),
    Form("tables", "LLDT", "LLDT AX", "0f00d0", Exit.LDTR_WRITE),
    Form("tables", "LTR", "LTR AX", "0f00d8", Exit.TR_WRITE, registers={"rax": NEXT_TASK}),
    Form("tables", "SGDT", "SGDT [mem]", "0f0105DATA", Exit.GDTR_READ, "3B"),
    Form("tables", "SIDT", "SIDT [mem]", "0f010dDATA", Exit.IDTR_READ, "3B"),
    Form("tables", "SLDT", "SLDT AX", "660f00c0", Exit.LDTR_READ, "3B"),
    Form("tables", "STR", "STR AX", "660f00c8", Exit.TR_READ, "3C"),
)

_DESCRIPTORS: Final = (
    Form("descriptors", "LAR", "LAR of CS", "0f02c1", step="3C", registers={"rcx": CODE}),
    Form("descriptors", "LAR", "LAR of the TSS", "0f02c1", step="3C", registers={"rcx": TASK}),
    Form("descriptors", "LSL", "LSL of DS", "0f03c1", step="3C", registers={"rcx": STACK}),
    Form("descriptors", "LSL", "LSL of the TSS", "0f03c1", step="3C", registers={"rcx": TASK}),
    Form("descriptors", "VERR", "VERR", "0f00e1", step="3C", registers={"rcx": STACK}),
    Form("descriptors", "VERR", "VERR, RPL 1", "0f00e1", step="3C", registers={"rcx": STACK | 1}),
    Form("descriptors", "VERW", "VERW", "0f00e9", step="3C", registers={"rcx": STACK}),
    Form("descriptors", "VERW", "VERW, RPL 1", "0f00e9", step="3C", registers={"rcx": STACK | 1}),
)

_PLAIN, _LOWER = _pointer(0x1234, STACK), _pointer(0x1234, STACK | 1)
_LOADS: Final = {"LDS": "c505", "LES": "c405", "LFS": "0fb405", "LGS": "0fb505"}
_SEGMENTS: Final = (
    Form("segments", "MOV", "MOV EAX, CS", "8cc8", step="3C"),
    Form("segments", "MOV", "MOV EAX, SS", "8cd0", step="3C"),
    Form("segments", "MOV", "MOV EAX, DS", "8cd8", step="3C"),
    Form("segments", "MOV", "MOV DS, AX", "8ed8", step="3C", registers={"rax": STACK}),
    Form("segments", "MOV", "MOV DS, AX, RPL 1", "8ed8", step="3C", registers={"rax": STACK | 1}),
    Form("segments", "MOV", "MOV SS, AX", "8ed0", step="3C", registers={"rax": STACK}),
    Form("segments", "PUSH", "PUSH CS", "0e", step="3C"),
    Form("segments", "PUSH", "PUSH SS", "16", step="3C"),
    Form("segments", "PUSH", "PUSH DS", "1e", step="3C"),
    Form("segments", "POP", "POP DS", "1f", step="3C", stack=(STACK,)),
    Form("segments", "POP", "POP DS, RPL 1", "1f", step="3C", stack=(STACK | 1,)),
    Form("segments", "POP", "POP SS", "17", step="3C", stack=(STACK,)),
    *(
        form
        for name, code in _LOADS.items()
        for form in (
            Form("segments", name, name, f"{code}DATA", data=_PLAIN),
            Form("segments", name, f"{name}, RPL 1", f"{code}DATA", data=_LOWER),
        )
    ),
    Form("segments", "LSS", "LSS", "0fb205DATA", data=_PLAIN),
    Form("segments", "LSS", "LSS, RPL 1", "0fb205DATA", data=_LOWER),
)

_TRANSFERS: Final = (
    Form("far transfers", "JMP", "JMP far", "eaTARGET0800", step="3C"),
    Form("far transfers", "JMP", "JMP far, RPL 1", "eaTARGET0900", step="3C"),
    Form("far transfers", "CALL", "CALL far", "9aTARGET0800", step="3C"),
    Form("far transfers", "CALL", "CALL far, RPL 1", "9aTARGET0900", step="3C"),
    Form("far transfers", "CALL", "CALL by a gate", "9aTARGET6000", step="3C"),
    Form("far transfers", "RET", "RET far", "cb", step="3C", stack=(TARGET, CODE)),
    Form("far transfers", "RET", "RET far, RPL 1", "cb", step="3C", stack=(TARGET, CODE | 1)),
    Form("far transfers", "RET", "RET far to ring 3", "cb", step="3C", stack=(TARGET, *_OUTER)),
    Form("far transfers", "IRET", "IRET", "cf", Exit.IRET, stack=(TARGET, CODE, _FLAGS)),
    Form(
        "far transfers", "IRET", "IRET to ring 3", "cf", Exit.IRET,
        stack=(TARGET, _OUTER[0], _FLAGS, *_OUTER[1:]),
    ),
    Form("far transfers", "INT n", "INT n", f"cd{OWN_VECTOR:02x}", Exit.SWINT, "3C"),
    Form("far transfers", "INT n", "INT n, gate given", f"cd{GIVEN_VECTOR:02x}", Exit.SWINT, "3C"),
    Form("far transfers", "INT3", "INT3", "cc", Exit.EXCP_BP),
)  # fmt: skip

_SYSTEM_CALLS: Final = (
    Form("system calls", "SYSENTER", "SYSENTER", "0f34"),
    Form("system calls", "SYSEXIT", "SYSEXIT", "0f35", registers={"rdx": TARGET, "rcx": USER_STACK}),
    Form("system calls", "SYSCALL", "SYSCALL", "0f05", long64=True),
    Form("system calls", "SYSRET", "SYSRET", "480f07", registers={"rcx": TARGET, "r11": 2}, long64=True),
    Form("system calls", "SWAPGS", "SWAPGS", "0f01f8", long64=True),
)

_REGISTERS: Final = (
    Form("registers", "RDMSR", "RDMSR", "0f32", Exit.MSR, registers={"rcx": Msr.EFER}),
    Form(
        "registers", "WRMSR", "WRMSR", "0f30", Exit.MSR, registers={"rcx": Msr.SYSENTER_ESP, "rax": 0x7777}
    ),
    Form("registers", "RDPMC", "RDPMC", "0f33", Exit.RDPMC),
    Form("registers", "RDTSC", "RDTSC", "0f31", Exit.RDTSC),
    Form("registers", "RDTSCP", "RDTSCP", "0f01f9", Exit.RDTSCP),
    Form("registers", "CPUID", "CPUID", "0fa2", Exit.CPUID),
    Form("caches", "INVLPG", "INVLPG [mem]", "0f013dDATA", Exit.INVLPG, beyond="the TLB"),
    Form("caches", "INVD", "INVD", "0f08", Exit.INVD, beyond="the caches"),
    Form("caches", "WBINVD", "WBINVD", "0f09", Exit.WBINVD, beyond="the caches"),
)  # fmt: skip

_STRING: Final = {"rdx": PORT, "rsi": DATA, "rdi": DATA}
_PORTS: Final = (
    Form("ports", "IN", "IN AL, imm", f"e4{PORT:02x}", Exit.IOIO),
    Form("ports", "IN", "IN AL, DX", "ec", Exit.IOIO, registers={"rdx": PORT}),
    Form("ports", "OUT", "OUT imm, AL", f"e6{PORT:02x}", Exit.IOIO, registers={"rax": 0x42}),
    Form("ports", "OUT", "OUT DX, AL", "ee", Exit.IOIO, registers={"rdx": PORT, "rax": 0x42}),
    Form("ports", "INS", "INSB", "6c", Exit.IOIO, registers=_STRING),
    Form("ports", "OUTS", "OUTSB", "6e", Exit.IOIO, registers=_STRING),
)

_SVM: Final = "a guest's VMCB, which this processor has not"
_VIRTUALIZATION: Final = (
    Form("AMD-V", "VMRUN", "VMRUN", "0f01d8", Exit.VMRUN, beyond=_SVM),
    Form("AMD-V", "VMMCALL", "VMMCALL", "0f01d9", Exit.VMMCALL),
    Form("AMD-V", "VMLOAD", "VMLOAD", "0f01da", Exit.VMLOAD, beyond=_SVM),
    Form("AMD-V", "VMSAVE", "VMSAVE", "0f01db", Exit.VMSAVE, beyond=_SVM),
    Form("AMD-V", "STGI", "STGI", "0f01dc", Exit.STGI, beyond="the global interrupt flag"),
    Form("AMD-V", "CLGI", "CLGI", "0f01dd", Exit.CLGI, beyond="the global interrupt flag"),
    Form("AMD-V", "SKINIT", "SKINIT", "0f01de", Exit.SKINIT, beyond="the whole processor"),
    Form("AMD-V", "INVLPGA", "INVLPGA", "0f01df", Exit.INVLPGA, beyond="the TLB"),
    Form("others", "RSM", "RSM", "0faa", Exit.RSM, beyond="system management mode"),
    Form("others", "MONITOR", "MONITOR", "0f01c8", Exit.MONITOR, beyond="the monitor of stores"),
    Form("others", "MWAIT", "MWAIT", "0f01c9", Exit.MWAIT, beyond="the processor, which it stops"),
)

FORMS: Final = (
    *_INTERRUPTS, *_CONTROL, *_TABLES, *_DESCRIPTORS, *_SEGMENTS, *_TRANSFERS, *_SYSTEM_CALLS, *_REGISTERS,
    *_PORTS, *_VIRTUALIZATION,
)  # fmt: skip
"""All of them, in the order of the table."""

ROBIN_IRVINE: Final = (
    "SGDT", "SIDT", "SLDT", "SMSW", "PUSHF", "POPF",
    "LAR", "LSL", "VERR", "VERW", "POP", "PUSH", "CALL", "JMP", "INT n", "RET", "STR", "MOV",
)  # fmt: skip
"""The sensitive, unprivileged instructions of Robin and Irvine (2000): 3B in the first line, then 3C.

The paper counts seventeen. Its two lists, as they are usually reprinted, have these eighteen names, and
Hennessy and Patterson (Computer Architecture, chapter 2, "Fallacies and Pitfalls") count eighteen after it.
Here the names are compared.
"""
