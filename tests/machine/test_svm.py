"""VMRUN and #VMEXIT: the VMCB, EVENTINJ and EXITINTINFO, two worlds, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import pytest

from tests.machine.lab import CODE, DATA, HANDLERS, IDT, Bench
from vlab.isa.permission_maps import MSRPM_SIZE, set_msr_intercept
from vlab.isa.state import CpuState, Segment, TableRegister
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vmcb import (
    EventInjection,
    IntCtl,
    InterceptMisc1,
    InterceptMisc2,
    NestedControl,
    VmcbControl,
    VmcbSave,
)
from vlab.machine.faults import Event, EventKind
from vlab.machine.processor import STOPPED
from vlab.machine.svm import ALL_CLEAN, event_of, injection_of, read_save_area, write_save_area

INVALID = int(SvmExit.INVALID)
M1, M2 = InterceptMisc1, InterceptMisc2


class World:
    """One VMCB and the monitor's side of it."""

    def __init__(
        self, lab: Bench, state: CpuState, misc1: int = 0, misc2: int = 0, exceptions: int = 0
    ) -> None:
        self.lab = lab
        self.vmcb = lab.machine.frames.allocate()
        lab.memory.zero(self.vmcb, 0x1000)
        self.control = VmcbControl(lab.memory.bytes, self.vmcb)
        self.save = VmcbSave(lab.memory.bytes, self.vmcb)
        self.control.intercept_misc1 = misc1
        self.control.intercept_misc2 = misc2 | M2.VMRUN.mask
        self.control.intercept_exceptions = exceptions
        self.control.asid = 1
        self.control.nested_ctl = NestedControl.NP_ENABLE.mask
        self.control.nested_cr3 = lab.root
        write_save_area(self.save, state)

    def run(self) -> int:
        code = self.lab.machine.svm.vmrun(self.vmcb)
        if code != STOPPED:
            assert self.control.exitcode == code & (1 << 64) - 1
        return code

    def changed(self) -> None:
        self.control.clean_bits = 0


@pytest.fixture
def world(lab: Bench) -> Callable[..., World]:
    return lambda state, **intercepts: World(lab, state, **intercepts)


def odd_state() -> CpuState:
    """A state of which every register is something else."""
    state = CpuState.long64(CODE, 0x80000)
    number = 0x1000
    for field in fields(CpuState):
        value = getattr(state, field.name)
        number += 0x1111
        if field.name in ("cr0", "cr3", "cr4", "efer", "dr6", "dr7", "rflags", "pat", "cs", "ss"):
            continue
        if isinstance(value, Segment):
            attributes = {"tr": 0x8B, "ldtr": 0x82}.get(field.name, 0xCF3)
            setattr(state, field.name, Segment(number & 0xFFFF, number << 4, number, attributes))
        elif isinstance(value, TableRegister):
            setattr(state, field.name, TableRegister(number << 8, number & 0xFFFF))
        else:
            setattr(state, field.name, number)
    state.dr7, state.dr6, state.rflags, state.rip = 0x455, 0xFFFF4FF0, 0x246, CODE
    return state


def test_a_state_comes_out_of_the_save_area_as_it_went_in(lab: Bench) -> None:
    save = VmcbSave(bytearray(0x1000))
    state = odd_state()
    write_save_area(save, state)
    assert save.efer & 0x1000  # VMRUN demands SVME
    again = read_save_area(save, CpuState())
    for name in ("rcx", "rdx", "rbx", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16))):
        assert getattr(again, name) == 0  # VMRUN leaves them alone
        setattr(again, name, getattr(state, name))
    assert again == state


def test_the_cpl_is_the_vmcbs_own(lab: Bench) -> None:
    save = VmcbSave(bytearray(0x1000))
    write_save_area(save, CpuState.long64(CODE, 0x80000))
    save.cpl = 3
    assert read_save_area(save, CpuState()).cpl == 3


def test_vmrun_runs_the_guest_and_vmexit_reports(lab: Bench, world: Callable[..., World]) -> None:
    guest = world(lab.flat32(), misc1=M1.CPUID.mask)
    lab.code("40 0fa2 f4")
    assert guest.run() == SvmExit.CPUID
    assert (lab.core.rip, lab.core.get_gpr(0)) == (CODE + 1, 1)
    assert (guest.save.rip, guest.save.rax) == (CODE, 0)  # cached until it is written back
    lab.machine.svm.write_back()
    assert (guest.save.rip, guest.save.rax) == (CODE + 1, 1)


def test_exit_information_is_in_the_vmcb(lab: Bench, world: Callable[..., World]) -> None:
    guest = world(lab.long64(), exceptions=1 << 14)
    lab.code("48a10000400000000000")
    assert guest.run() == SvmExit.EXCP_PF
    assert (guest.control.exitinfo1, guest.control.exitinfo2) == (0, 0x400000)
    assert lab.core.cr2 == 0


def test_a_nested_page_fault_is_an_exit(lab: Bench, world: Callable[..., World]) -> None:
    guest = world(lab.flat32())
    lab.code("c705001050000a000000")  # MOV dword [501000], 10
    assert guest.run() == SvmExit.NPF
    assert (guest.control.exitinfo1, guest.control.exitinfo2) == (6, 0x501000)
    assert lab.core.rip == CODE


def test_the_control_area_is_read_again_when_its_clean_bits_say_so(
    lab: Bench, world: Callable[..., World]
) -> None:
    guest = world(lab.flat32(), misc1=M1.CPUID.mask)
    lab.code("0fa2 0fa2 f4")
    assert guest.run() == SvmExit.CPUID
    assert guest.control.clean_bits == ALL_CLEAN
    guest.control.intercept_misc1 = 0
    assert guest.run() == SvmExit.CPUID  # still the old intercepts
    guest.changed()
    assert guest.run() == SvmExit.HLT


def test_a_stop_is_no_exit(lab: Bench, world: Callable[..., World]) -> None:
    guest = world(lab.flat32())
    guest.control.exitcode = 0x1234
    lab.code("ebfe")
    lab.engine.stops.arm(lab.engine.stops.words[0] + 10)
    assert lab.machine.svm.vmrun(guest.vmcb) == STOPPED
    assert guest.control.exitcode == 0x1234


# --- two worlds ---------------------------------------------------------------------------------------------


def test_two_guests_keep_their_registers_apart(lab: Bench, world: Callable[..., World]) -> None:
    """Those that VMRUN switches; the others are the monitor's to keep, as on hardware."""
    lab.code("0fa2 ebfc")
    one, two = lab.flat32(), lab.long64()
    one.rax, two.rax, one.rsp, two.rsp, one.cr2, two.cr2 = 1, 2, 0x111, 0x222, 0x1111, 0x2222
    one.star, two.star, one.tr.base = 0x11, 0x22, 0x7000
    worlds = [world(state, misc1=M1.CPUID.mask) for state in (one, two)]
    for _ in range(3):
        for guest, state in zip(worlds, (one, two), strict=True):
            assert guest.run() == SvmExit.CPUID
            now = lab.core.state()
            for name in (
                "rax",
                "rsp",
                "cr2",
                "cr3",
                "efer",
                "star",
                "cs",
                "ss",
                "tr",
                "gdtr",
                "rip",
                "rflags",
            ):
                assert getattr(now, name) == getattr(state, name), name


def test_vmrun_leaves_the_other_general_registers_alone(lab: Bench, world: Callable[..., World]) -> None:
    """RBX of one guest shows in the other, unless the monitor switches the whole register file."""
    lab.code("ffc3 0fa2 f4", CODE + 0x100)
    one, two = lab.flat32(), lab.flat32()
    one.cr4 = two.cr4 = 0x600
    two.rip = CODE + 0x100
    lab.code("bb77000000 0fa2")
    first, second = (world(state, misc1=M1.CPUID.mask) for state in (one, two))
    assert first.run() == SvmExit.CPUID
    assert second.run() == SvmExit.CPUID
    assert lab.core.get_gpr(3) == 0x78


def test_a_register_file_that_is_put_aside_keeps_x87_and_sse(lab: Bench) -> None:
    state = lab.flat32()
    state.cr4, state.rsi, state.rdi = 0x600, DATA, DATA + 0x100
    lab.poke(DATA, bytes(range(16)))
    # MOVUPS XMM3, [ESI]; FLD1; HLT; MOVUPS [EDI], XMM3; FSTP qword [EDI+16]; HLT
    assert lab.run(state, "0f101e d9e8 f4 0f111f dd5f10 f4") == SvmExit.HLT
    lab.processor.skip(1)
    saved = bytes(lab.engine.bytes)
    lab.processor.load_registers(None)
    lab.intercept()
    state.rip = CODE + 0x100
    lab.code("0f57db d9ee ddd8 f4", CODE + 0x100)  # XORPS XMM3; FLDZ; FSTP ST0
    assert lab.run(state) == SvmExit.HLT
    lab.processor.load_registers(saved)
    lab.intercept()
    assert lab.run() == SvmExit.HLT
    assert bytes(lab.ram[DATA + 0x100 : DATA + 0x110]) == bytes(range(16))
    assert lab.peek(DATA + 0x110, 8) == 0x3FF0000000000000


def test_an_interrupt_shadow_moves_with_its_world(lab: Bench, world: Callable[..., World]) -> None:
    lab.code("fb 0fa2 f4")  # STI; CPUID
    lab.code("0fa2", CODE + 0x100)
    other = lab.flat32()
    other.rip = CODE + 0x100
    one, two = (world(state, misc1=M1.CPUID.mask) for state in (lab.flat32(), other))
    assert one.run() == SvmExit.CPUID
    assert one.control.interrupt_state & 1
    assert two.run() == SvmExit.CPUID
    assert not lab.core.interrupt_shadow
    one.run()
    assert lab.core.interrupt_shadow


def test_a_vmcb_that_is_forgotten_is_not_written_to(lab: Bench, world: Callable[..., World]) -> None:
    guest = world(lab.flat32())
    lab.code("40 f4")
    guest.run()
    lab.machine.svm.forget(guest.vmcb)
    lab.machine.svm.write_back()
    assert guest.save.rax == 0


def test_registers_on_the_processor_can_be_adopted(lab: Bench, world: Callable[..., World]) -> None:
    guest = world(lab.flat32(), misc1=M1.CPUID.mask)
    state = lab.flat32()
    state.rax = 0x55
    lab.code("0fa2")
    lab.core.load(state)
    lab.machine.svm.adopt(guest.vmcb)
    assert guest.run() == SvmExit.CPUID
    assert lab.core.get_gpr(0) == 0x55


# --- events -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "frame"),
    [
        (EventInjection.interrupt(0x30), [CODE, 8, 0x202]), (EventInjection.nmi(), [CODE, 8, 0x202]),
        (EventInjection.exception(13, 0x55), [0x55, CODE, 8, 0x10202]),
        (EventInjection.exception(6), [CODE, 8, 0x10202]),
        (EventInjection.software(0x30), [CODE, 8, 0x202]),
    ],
)  # fmt: skip
def test_eventinj_is_delivered_before_the_first_instruction(
    lab: Bench, world: Callable[..., World], event: EventInjection, frame: list[int]
) -> None:
    lab.gate32(event.VECTOR, HANDLERS)
    lab.poke(HANDLERS, "f4")
    state = lab.flat32()
    state.rflags = 0x202
    guest = world(state)
    guest.control.eventinj = event
    assert guest.run() == SvmExit.HLT
    assert lab.core.rip == HANDLERS
    assert [lab.peek(lab.core.rsp + 4 * n, 4) for n in range(len(frame))] == frame
    assert not guest.control.eventinj.V


def test_an_injected_page_fault_takes_its_address_from_cr2(lab: Bench, world: Callable[..., World]) -> None:
    lab.gate32(14, HANDLERS)
    lab.poke(HANDLERS, "0f20d0 f4")  # MOV EAX, CR2
    state = lab.flat32()
    state.cr2 = 0x1234
    guest = world(state)
    guest.control.eventinj = EventInjection.exception(14, 2)
    assert guest.run() == SvmExit.HLT
    assert lab.core.get_gpr(0) == 0x1234


def test_a_fault_on_the_way_that_is_intercepted_leaves_the_event_in_exitintinfo(
    lab: Bench, world: Callable[..., World]
) -> None:
    state = lab.flat32()
    state.idtr = TableRegister(IDT, 7)  # one gate long
    guest = world(state, exceptions=1 << 13)
    event = EventInjection.interrupt(0x30)
    guest.control.eventinj = event
    assert guest.run() == SvmExit.EXCP_GP
    assert guest.control.exitinfo1 == 0x30 << 3 | 3
    assert guest.control.exitintinfo == event
    lab.code("f4")
    state.idtr = TableRegister(IDT, 0xFFF)
    lab.core.idtr = state.idtr
    assert guest.run() == SvmExit.HLT
    assert guest.control.exitintinfo == 0


def test_a_nested_page_fault_while_an_event_is_delivered_leaves_it_in_exitintinfo(
    lab: Bench, world: Callable[..., World]
) -> None:
    lab.gate32(0x30, HANDLERS)
    state = lab.flat32()
    state.rsp = 0x600000  # no memory there
    guest = world(state)
    guest.control.eventinj = EventInjection.interrupt(0x30)
    assert guest.run() == SvmExit.NPF
    assert guest.control.exitinfo2 == 0x5FF000 | 0xFF4
    assert guest.control.exitintinfo == EventInjection.interrupt(0x30)


def test_an_exception_of_the_guests_own_that_meets_an_intercepted_one_is_in_exitintinfo(
    lab: Bench, world: Callable[..., World]
) -> None:
    lab.gate32(6, HANDLERS)
    state = lab.flat32()
    state.rsp = 0x600000
    guest = world(state)
    lab.code("0f0b")
    assert guest.run() == SvmExit.NPF
    assert guest.control.exitintinfo == EventInjection.exception(6)


def test_a_software_interrupt_is_not_in_exitintinfo_for_it_runs_again(
    lab: Bench, world: Callable[..., World]
) -> None:
    state = lab.flat32()
    state.rsp = 0x600000
    lab.gate32(0x80, HANDLERS)
    guest = world(state)
    lab.code("cd80")
    assert guest.run() == SvmExit.NPF
    assert (guest.control.exitintinfo, lab.core.rip) == (0, CODE)


def test_a_triple_fault_is_a_shutdown_with_its_story(lab: Bench, world: Callable[..., World]) -> None:
    state = lab.flat32()
    state.idtr = TableRegister(0, 0)
    guest = world(state)
    lab.code("0f0b")
    assert guest.run() == SvmExit.SHUTDOWN
    assert [record.fault.vector for record in lab.processor.chain] == [13, 13, 13]


@pytest.mark.parametrize(
    "event",
    [
        Event(EventKind.EXTERNAL, 0x30), Event(EventKind.NMI, 2), Event(EventKind.EXCEPTION, 13, 0x18),
        Event(EventKind.EXCEPTION, 6), Event(EventKind.SOFTWARE_INT, 0x80),
    ],
)  # fmt: skip
def test_an_event_survives_the_way_through_eventinj(lab: Bench, event: Event) -> None:
    assert event_of(int(injection_of(event)), lab.processor) == event


def test_a_virtual_interrupt_exits_when_the_guest_can_take_it(
    lab: Bench, world: Callable[..., World]
) -> None:
    guest = world(lab.flat32(), misc1=M1.VINTR.mask)
    lab.code("40 fb 40 40 40 f4")
    guest.control.int_ctl = IntCtl(0).replace(V_IRQ=1)
    assert guest.run() == SvmExit.VINTR
    assert lab.core.rip == CODE + 3  # one instruction after STI
    guest.control.int_ctl = 0
    assert guest.run() == SvmExit.HLT


# --- the MSR permission map ---------------------------------------------------------------------------------


def test_only_msrs_in_the_permission_map_exit(lab: Bench, world: Callable[..., World]) -> None:
    guest = world(lab.long64(), misc1=M1.MSR.mask)
    bitmap = bytearray(MSRPM_SIZE)
    set_msr_intercept(bitmap, 0xC0000082, write=False)
    place = lab.machine.frames.allocate(MSRPM_SIZE)
    lab.memory.write_bytes(place, bytes(bitmap))
    guest.control.msrpm_base_pa = place
    # MOV ECX, LSTAR; WRMSR; RDMSR
    lab.code("b9820000c0 0f30 0f32 f4")
    assert guest.run() == SvmExit.MSR
    assert (lab.core.rip, guest.control.exitinfo1) == (CODE + 7, 0)
    assert lab.processor.access_msr(write=False)
    assert guest.run() == SvmExit.HLT


# --- what VMRUN refuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda w: setattr(w.control, "intercept_misc2", 0), "the VMRUN intercept is clear"),
        (lambda w: setattr(w.control, "asid", 0), "the ASID is 0"),
        (lambda w: setattr(w.save, "efer", 0x500), "EFER.SVME is clear"),
        (lambda w: setattr(w.save, "efer", 0x1502 | 1 << 40), "EFER has reserved bits set: 0x10000000002"),
        (lambda w: setattr(w.save, "cr0", 1 << 32 | 0x80000011), "bits 63:32 of CR0 must be 0"),
        (lambda w: setattr(w.save, "cr0", 0xA0000011), "CR0.NW needs CR0.CD"),
        (lambda w: setattr(w.save, "cr4", 0x1020), "CR4 has reserved bits set: 0x1000"),
        (lambda w: setattr(w.save, "dr7", 1 << 32), "bits 63:32 of DR6 and DR7 must be 0"),
        (lambda w: setattr(w.save, "dr6", 1 << 40), "bits 63:32 of DR6 and DR7 must be 0"),
        (lambda w: setattr(w.save, "cr4", 0), "long mode needs CR4.PAE"),
        (lambda w: setattr(w.save, "cr0", 0x80000010), "long mode needs CR0.PE"),
        (lambda w: setattr(w.save, "cs_attributes", 0xE9B), "CS has both L and D set"),
        (lambda w: setattr(w.save, "cr3", 1 << 52), "bits 63:52 of CR3 must be 0"),
        (lambda w: (setattr(w.control, "intercept_misc1", 1 << 28),
                    setattr(w.control, "msrpm_base_pa", 1 << 40)),
         "the MSR permission map at 0x10000000000 is not in memory"),
        (lambda w: setattr(w.control, "eventinj", 0x80000100),
         "EVENTINJ 0x80000100 has a type or vector that does not exist"),
        (lambda w: setattr(w.control, "eventinj", 0x80000320),
         "EVENTINJ 0x80000320 has a type or vector that does not exist"),
    ],
)  # fmt: skip
def test_a_vmcb_that_cannot_be_run_is_vmexit_invalid(
    lab: Bench, world: Callable[..., World], spoil: Callable[[World], None], why: str
) -> None:
    guest = world(lab.long64())
    lab.code("f4")
    spoil(guest)
    assert guest.run() == INVALID
    assert lab.machine.svm.refused == why
    assert lab.core.rip != CODE + 1


@pytest.mark.parametrize("vmcb", [0x123, 1 << 40, -4096])
def test_an_address_that_is_no_page_of_memory_is_vmexit_invalid(lab: Bench, vmcb: int) -> None:
    assert lab.machine.svm.vmrun(vmcb) == INVALID
    assert lab.machine.svm.refused == f"the VMCB's address {vmcb:#x} is no page of memory"


def test_paged_real_mode_is_a_state_that_vmrun_takes(lab: Bench, world: Callable[..., World]) -> None:
    """CR0.PG without PE exists for guests in real mode under shadow paging (APM2 15.19)."""
    state = lab.real()
    state.cr0, state.cr3 = 0x80000010, 0x90000
    lab.poke(0x90000, (0x91007).to_bytes(4, "little"))
    for page in range(256):
        lab.poke(0x91000 + 4 * page, (page << 12 | 7).to_bytes(4, "little"))
    guest = world(state, exceptions=1 << 14)
    lab.code("40 f4")
    assert guest.run() == SvmExit.HLT
    assert lab.core.get_gpr(0) == 1


def test_svm_instructions_in_the_guest_are_the_owners(lab: Bench, world: Callable[..., World]) -> None:
    guest = world(lab.flat32(), misc2=M2.VMMCALL.mask)
    lab.code("0f01d9")
    assert guest.run() == SvmExit.VMMCALL
    assert lab.core.rip == CODE
