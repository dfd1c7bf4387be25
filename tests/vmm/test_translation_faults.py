"""Faults inside translated code: the guest's handler sees what it would see on the bare processor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vmm.translation_lab import (
    EDGE,
    EDGE_TABLE,
    Lab,
    edge_table,
    open_lab,
    program32,
    program64,
    world32,
    world64,
)

SEQUENCES = {
    "copied in middle": "b801000000b9020000008b1500108000b903000000",
    "copied 2": "f9fb908b1534128000b903000000",
    "sti then fault": "fb8b1534128000b903000000",
    "sti then div": "31c9fbf7f1",
    "sti then ud2": "fb0f0b",
    "sti then cli fault": "fbfa8b1534128000",
    "sti then call": "fbff1534128000",
    "sti then jmp": "fbff2534128000",
    "sti ret absent": "bc00108000fbc3",
    "sti pop absent": "bc00108000fb58",
    "sti int": "fbcd30",
    "sti sti fault": "fbfb8b1534128000",
    "ret absent": "bc00108000b977000000c3",
    "ret 8 absent": "bc00108000b977000000c20800",
    "popf absent": "bc00108000b977000000f99d",
    "popf absent if=1": "fbbc00108000b977000000f99d",
    "iret absent": "bc00108000cf",
    "iret part": "bcf80f8000cf",
    "retf part": "bcfc0f8000cb",
    "call mem absent": "b905000000ff1500108000",
    "call mem ecx absent": "b900108000ff11",
    "call mem esp": "83ec08c7042420000400c744240422000400ff5424040f0b89e00f0b",
    "call esp": "ffd4",
    "call [esp]": "6812000400ff142489e00f0b",
    "jmp esp": "c705c06f00000f0b0000bcc06f0000ffe4",
    "jmp mem absent": "ff2500108000",
    "rep movs fault": "fcbef00f8000bf00310000b920000000f3a4",
    "write ro": "a304208000",
    "add ro": "b807000000010504208000",
    "pop to ro": "6a058f0504208000",
    "pop esp rel ro": "6a056a068f842404b07f00",
    "div0": "b900000000b804000000f7f1",
    "bound": "c7050031000001000000c7050431000005000000b809000000620500310000",
    "into": "b07f0401ce",
    "int3": "cc",
    "int 30": "cd30",
    "int 41 beyond idt": "cd41",
    "loop": "b9030000008b048df00f8000e2f7",
    "rdpkru": "31c90f01ee",
    "wrpkru": "31c931c031d20f01ef",
    "66 pushf": "669c66580f0b",
    "66 popf": "66b8d70e6650669d9c580f0b",
    "pushf if": "9cfb9cfa9c585b590f0b",
    "pushf flags": "b8d5080000509d9c5b0f0b",
    "popf nt": "68d74e00009d9c5b6a029d0f0b",
    "popf iopl": "68023200009d9c5868021200009d9c5b6a029d9c590f0b",
    "popf id ac": "68020224009d9c580f0b",
    "popf vm rf": "68020003009d9c580f0b",
    "mov sel cs": "8cc88cd1668cca0f0b",
    "mov sel flags": "f98cc89c5b0f0b",
    "mov mem cs": "8c0d003100008c15043100008c1d083100008c050c3100008c25103100000f0b",
    "push cs": "0e161e585b590f0b",
    "push 66 cs": "660e8b0424bc007000000f0b",
    "lret": "0e6811000400cb0f0b",
    "lcall": "9a110004000800585b0f0b",
    "lar": "b91b0000000f02c10f03d90f00e10f94c20f00e90f94c60f0b",
    "sgdt": "0f0105003100000f010d083100000f0b",
    "pop ds": "6a231f8cd86a101f0f0b",
    "mov ss fault": "b8100000008ed08b1500108000",
    "mov gs null": "31c08ee865a100000000",
    "leave absent": "bd00108000c9",
    "enter ro": "bc00308000c8080000",
    "fpu ts": "0f20c083c8080f22c0d9e8",
    "ac": "0f20c00fbae8120f22c09c580d00000400509da1013100000f0b",
    "jmp far mem": "c705003100002300040066c705043100000800ff2d003100000f0b",
    "bad cs jmp": "ea1100040000020f0b",
    "call [ecx*4]": "c7050031000020000400b940000000ff148d00300000580f0b",
    "call mem 16addr": "c705003100001b00040066bb003167ff17580f0b",
    "call mem 16addr bp+si": "c705003100001f00040066bd003066be000167ff12580f0b",
    "67 loop": "b9020001004067e2fc0f0b",
    "67 jcxz": "b90000010067e301900f0b",
    "cs prefix jcc": "f92e720290900f0b",
    "f3 ret": "6811000400f3c30f0b",
    "call at a page's end": "bc00208000e800000000",
    "call of a register at a page's end": "bc00208000b955000000b81b000400ffd0",
    "call over a read-only stack, twice known": "bb03000000b825000400ffd04b75f6bc00308000b955000000ffd0c3",
    "ret whose lookup is known, from an absent stack": (
        "bb03000000e8100000004b75f8bc00108000b977000000eb0190c3"
    ),
    "pushf at a page's end": "bc00208000f99c",
    "pushf at a page's end, IF=1": "fbbc00208000f99c",
    "call [mem] known, then absent": (
        "bb03000000b922000400ff114b75fbb900108000ff11eb0f2600040083fb017505b900108000c3"
    ),
}
"""Bodies of 32-bit programs. EDGE + 1000h is missing, EDGE + 2000h read-only."""

SEQUENCES_64 = {
    "mid": "b801000000488b0c2534128000b903000000",
    "sti": "fb488b0c2534128000",
    "call rip": "ff1507000000eb130f1f4400002000040000000000b807000000c3",
    "jmp rip": "ff25070000000f0b0f1f4400002000040000000000b809000000",
    "mov rip": (
        "488b0517000000488d1d1000000083050900000005803d0200000038eb083300000000000000488b0df1ffffffff35eb"
        "ffffff5a8c0de4ffffff488b3dddffffff486935d2ffffff34120000c705c8ffffff887766554c8b05c1ffffff"
    ),
    "ret absent": "48c7c400108000b977000000c3",
    "load noncanon": "48bb0000000000800000488b03",
    "ret far addr": "48b89a7856341200000050c3",
    "call far addr": "48b89a78563412000000ffd0",
    "jmp far": "48b89a78563412000000ffe0",
    "popf absent": "48c7c400108000b905000000f99d",
    "popf": "68020200009d9c5868d70800009d9c5b",
    "call mem absent": "b905000000ff142500108000",
    "call mem rsp": "6813000400ff142458",
    "call r13": "41bd1400040041ffd558",
    "call [r13]": "68170004004989e541ff550058",
    "call [r12+8]": "681a0004004c8d6424f841ff54240858",
    "call r9": "41b919000400b90300000041ffd158",
    "jmp r9": "41b919000400b90300000041ffe14c89c8",
    "jmp r12": "41bc1400040041ffe44c89e0",
    "jmp rcx": "b912000400ffe14889c8",
    "call [rcx+8]": "6818000400488d4c24f8ff510858",
    "call fs": "b9000100c031d2b8003000000f3048c70425403000002d00040064ff14254000000058",
    "call 67": "c70425403000002a000400c704254430000000000000bb0030000067ff534058",
    "retn": "6a016815000400c208004889e0",
    "loop": "b904000000ffc0e2fc",
    "67loop": "48b90200000001000000ffc067e2fb",
    "jrcxz": "48b90000000001000000e302ffc067e302ffc3",
    "sel": "8cc848c7c3ffffffff668cd3418cc98cd2418cca4c89c94c89d6",
    "selmem": "8c0c25003000008c1425083000008c1509000000668b0502000000eb080000000000000000",
    "syscall": "0f05",
    "swapgs": "b9020100c0b80030000031d20f300f01f865488b042500000000",
    "iretq": "4889e06a105068020200006a08681f00040048cf9c5bfa",
    "lretq": "6a08681400040048cb",
    "to compat": "6a38681400040048cb8cc88cd1e8000000005bfb90fa9c5a8b3500108000",
    "int": "cd30",
    "div": "31c948f7f1",
    "rdpkru": "31c90f01ee",
    "wrpkru": "31c931d231c00f01ef",
    "cr4": "0f20e04889042500300000480fbae8160f22e0",
    "cr4 smep": "0f20e0480fbae8150f22e00f20e0",
    "clac": "0f01ca0f01cb9c58",
    "cr8": "48c7c005000000440f22c0440f20c3",
    "user": "6a1b680080000068020200006a23682000040048cf8cc88cd19c5a488b1c25000000e0fa",
    "user cli iopl": (
        "6a1b680080000068023000006a23682000040048cf8cc88cd19c5a488b1c25000000e0fb9c5efae800000000584889c6"
        "eb000f05"
    ),
    "user if0": "6a1b68008000006a026a23681d00040048cf8cc88cd19c5a488b1c25000008e00f01ee",
    "rexw far jmp mem": "48c70425003000002900040066c7042508300000080048ff2c2500300000",
    "pushf at a page's end": "48c7c400208000b8050000009c",
    "call of a register at a page's end": "48c7c400308000b907000000b81e000400ffd090",
}


def _needs_another_stack(name: str) -> bool:
    """Whether the handler cannot be entered on the stack that has just faulted."""
    return "page's end" in name or "read-only stack" in name or name == "enter ro"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from open_lab(tmp_path_factory.mktemp("guest"))


@pytest.mark.parametrize("name", [name for name in SEQUENCES if not _needs_another_stack(name)])
def test_a_handler_on_the_same_stack_sees_what_the_processor_shows(lab: Lab, name: str) -> None:
    lab.twins(program32(SEQUENCES[name]), world32())


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_task_that_serves_page_faults_finds_registers_and_stack_as_they_were(lab: Lab, name: str) -> None:
    """Nothing is pushed there, so what is below ESP is compared too."""
    lab.twins(program32(SEQUENCES[name]), world32(task_gate=True))


@pytest.mark.parametrize("name", SEQUENCES_64)
def test_64_bit_code_faults_alike_on_a_stack_of_the_handlers_own(lab: Lab, name: str) -> None:
    lab.twins(program64(SEQUENCES_64[name]), world64(ist=1), wide=True)


def test_the_stated_place_error_code_and_flags_are_the_manuals(lab: Lab) -> None:
    """Not the bare processor's word alone: a load behind STI, on a page that is missing."""
    outcome = lab.twins(program32(SEQUENCES["sti then fault"]), world32())
    fault = outcome.events()[0]
    assert (fault.vector, fault.code, fault.cr2) == (14, 0, EDGE + 0x1234)
    assert fault.ip == 0x4000A + 1
    assert fault.flags & 0x200


def test_an_instruction_that_continues_on_a_missing_page_faults_there_after_those_before_it(lab: Lab) -> None:
    """Thirteen INC EAX, then a MOV whose last bytes are missing."""
    body = bytes.fromhex("bbf00f8000ffe3")  # mov ebx, EDGE + 0FF0h; jmp ebx
    page = {0x80FF0: b"\x40" * 13 + b"\xb8\0\0", EDGE_TABLE: edge_table()}
    outcome = lab.run(program32(body), "binary-translation", world32() | page)
    (fault,) = outcome.events()
    assert (fault.vector, fault.code, fault.ip, fault.cr2) == (14, 0, EDGE + 0xFFD, EDGE + 0x1000)
    assert outcome.words(0x3040, 1) == (13,)


def test_a_call_through_a_16_bit_address_without_displacement(lab: Lab) -> None:
    """mov esi, 3104h; call [si]."""
    lab.twins(program32("c705043100001c000400be0431000067ff1458"), world32())


@pytest.mark.parametrize(
    "body",
    [
        "66" * 15 + "90",
        "66" * 14 + "90",
        "2e" * 14 + "b001",
        "2e" * 13 + "b001",
        "66" * 40,
        "3e" * 9 + "c7050030000001000000",
    ],
)
def test_an_instruction_of_more_than_15_bytes_is_a_general_protection_fault(lab: Lab, body: str) -> None:
    lab.twins(program32(body), world32())


def test_pop_of_a_segment_register_takes_eight_bytes_in_64_bit_code(lab: Lab) -> None:
    """push 10h; pop fs; push fs; pop rax; mov r8, rsp."""
    lab.twins(program64("6a100fa10fa0584989e0"), world64(), wide=True)
