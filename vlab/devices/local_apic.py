"""The local APIC of the one processor: priorities, local sources, inter-processor interrupts to itself.

Reference: Intel SDM vol. 3, 325384-077, chapter 10 ("SDM3"); AMD APM vol. 2, rev. 3.42, chapter 16 describes
the same registers. Version 14h: six LVT entries, no EOI-broadcast suppression, no x2APIC. IA32_APIC_BASE is
the processor's: while it disables the APIC, the 8259's output goes to the processor directly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

from vlab.devices import local_apic_registers as reg
from vlab.devices.apic_timer import ApicTimer
from vlab.devices.apic_vectors import VectorSets
from vlab.devices.local_apic_registers import (
    Delivery,
    ErrorStatus,
    InterruptCommand,
    LocalApicId,
    LocalApicState,
    LogicalDestination,
    LvtEntry,
    LvtState,
    SpuriousVector,
)
from vlab.devices.wiring import Line, Now, Schedule

FIRST_LEGAL_VECTOR = 16

_DWORD = 0xFFFF_FFFF
# Masks of the paths that every interrupt takes.
_ENABLED = SpuriousVector.ENABLE.mask
_MASKED = LvtEntry.MASKED.mask
_REMOTE_IRR = LvtEntry.REMOTE_IRR.mask
_LEVEL = LvtEntry.LEVEL.mask
_POLARITY = LvtEntry.ACTIVE_LOW.lo
_SOURCE = _MASKED | LvtEntry.DELIVERY_MODE.mask
_FIXED_SOURCE = Delivery.FIXED << LvtEntry.DELIVERY_MODE.lo
_EXTINT_SOURCE = Delivery.EXTINT << LvtEntry.DELIVERY_MODE.lo
_ICR_WRITABLE = ((1 << 64) - 1) & ~InterruptCommand.reserved_mask() & ~InterruptCommand.PENDING.mask


def _nothing() -> None:
    """What an unconnected pin does."""


class LocalApic:
    """The chip behind FEE00000h (a 4 KiB window).

    `output` drives the processor's INTR with the answer of `pending()`; the processor then takes
    `acknowledge()`. `eoi_broadcast(vector)` tells the I/O APIC of a level interrupt's end;
    `pic_acknowledge()` runs the 8259's acknowledge cycle for an ExtINT; `nmi()` raises an NMI. `frequency` is
    the timer's before its divider, Hz. The chip starts as after power-on, software-disabled and everything
    masked; firmware then calls `enter_virtual_wire`.
    """

    _identity: int
    _ldr: int
    _dfr: int
    _svr: int
    _esr: int
    _errors: int
    _icr: int
    _lvt: list[int]
    _pins: int
    _extint: bool

    def __init__(
        self,
        *,
        now: Now,
        schedule: Schedule,
        output: Line,
        eoi_broadcast: Callable[[int], None],
        pic_acknowledge: Callable[[], int],
        nmi: Callable[[], None] = _nothing,
        identity: int = 0,
        frequency: int = 1_000_000_000,
    ) -> None:
        self._output = output
        self._eoi_broadcast = eoi_broadcast
        self._pic_acknowledge = pic_acknowledge
        self._nmi = nmi
        self._vectors = VectorSets()
        self._timer = ApicTimer(now=now, schedule=schedule, fire=self._fire_timer, frequency=frequency)
        self._take(LocalApicState(identity=(identity & 0xFF) << LocalApicId.ID.lo))
        self._readers: dict[int, Callable[[], int]] = {
            reg.ID: lambda: self._identity,
            reg.VERSION: lambda: reg.VERSION_VALUE,
            reg.TPR: lambda: self._vectors.tpr,
            reg.APR: self._vectors.arbitration_priority,
            reg.PPR: self._vectors.processor_priority,
            reg.EOI: lambda: 0,
            reg.REMOTE_READ: lambda: 0,
            reg.LDR: lambda: self._ldr,
            reg.DFR: lambda: self._dfr,
            reg.SVR: lambda: self._svr,
            reg.ESR: lambda: self._esr,
            reg.ICR_LOW: lambda: self._icr & _DWORD,
            reg.ICR_HIGH: lambda: self._icr >> 32,
            reg.INITIAL_COUNT: lambda: self._timer.initial_count,
            reg.CURRENT_COUNT: self._timer.current_count,
            reg.DIVIDE: lambda: self._timer.divide,
        }
        self._writers: dict[int, Callable[[int], None]] = {
            reg.ID: self._write_id,
            reg.TPR: self._write_tpr,
            reg.EOI: self._write_eoi,
            reg.LDR: self._write_ldr,
            reg.DFR: self._write_dfr,
            reg.SVR: self._write_svr,
            reg.ESR: self._write_esr,
            reg.ICR_LOW: self._write_icr_low,
            reg.ICR_HIGH: self._write_icr_high,
            reg.INITIAL_COUNT: self._timer.load,
            reg.DIVIDE: self._timer.set_divide,
        }

    # --- the window -------------------------------------------------------------------------------------

    def read(self, offset: int, size: int = 1) -> int:
        """Read a register: 32 bits at each 16th byte (SDM3 10.4.1); the bytes between them give 0.

        A register that does not exist gives 0 and counts as an error (ESR.ILLEGAL_REGISTER).
        """
        place = offset & 0xF
        if place > 3:
            return 0
        value = self._read_register(offset & 0xFF0) >> 8 * place
        return value & ((1 << 8 * min(size, 4)) - 1)

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write a register. An access that is not aligned or narrower than 32 bits is lost (SDM3 10.4.1)."""
        if offset & 0xF or size < 4:
            return
        offset &= 0xFF0
        entry = offset - reg.LVT >> 4
        if offset in self._writers:
            self._writers[offset](value & _DWORD)
        elif 0 <= entry < len(self._lvt):
            self._write_lvt(entry, value & _DWORD)
        elif offset not in self._readers and not reg.ISR <= offset < reg.ESR:
            self._error(ErrorStatus.ILLEGAL_REGISTER.mask)
        self._drive()

    def _read_register(self, offset: int) -> int:
        if offset in self._readers:
            return self._readers[offset]()
        if reg.ISR <= offset < reg.ESR:
            sets = (self._vectors.in_service, self._vectors.level, self._vectors.requested)
            return sets[offset - reg.ISR >> 7] >> 32 * (offset >> 4 & 7) & _DWORD
        entry = offset - reg.LVT >> 4
        if 0 <= entry < len(self._lvt):
            return self._lvt[entry]
        self._error(ErrorStatus.ILLEGAL_REGISTER.mask)
        self._drive()
        return 0

    # --- what the processor sees ------------------------------------------------------------------------

    def pending(self) -> bool:
        """Tell whether an interrupt asks for the processor: one above its priority, or an ExtINT."""
        return self._deliverable() >= 0 or self._extint_asks()

    def acknowledge(self) -> int:
        """Hand the processor its vector: it goes from IRR to ISR, or comes from the 8259.

        The spurious vector answers when the request has gone meanwhile (SDM3 10.9); it needs no EOI.
        """
        vector = self._deliverable()
        if vector >= 0:
            self._vectors.serve(vector)
        elif self._extint_asks():
            self._extint = False
            vector = self._pic_acknowledge() & 0xFF
        else:
            vector = self._svr & 0xFF
        self._drive()
        return vector

    def set_tsc_deadline(self, deadline: int | None) -> None:
        """Arm the timer for a virtual time, ns, or disarm it; ignored outside TSC-deadline mode."""
        self._timer.set_deadline(deadline)
        self._drive()

    @property
    def tsc_deadline(self) -> int | None:
        """The armed deadline, ns; None once it has passed, and outside TSC-deadline mode."""
        return self._timer.deadline

    def expire(self) -> None:
        """Let the timer fire if it is due."""
        self._timer.expire()
        self._drive()

    # --- interrupt sources ------------------------------------------------------------------------------

    def accept(self, vector: int, level_triggered: bool) -> None:
        """Take a fixed interrupt into the IRR; lost while software-disabled, an error below vector 16."""
        self._accept(vector & 0xFF, level_triggered)
        self._drive()

    def deliver(self, vector: int, delivery_mode: int, level_triggered: bool) -> None:
        """Take a message from an I/O APIC. SMI, INIT and start-up have no effect on the one processor."""
        if delivery_mode in (Delivery.FIXED, Delivery.LOWEST_PRIORITY):
            self._accept(vector & 0xFF, level_triggered)
        elif delivery_mode == Delivery.NMI:
            self._nmi()
        elif delivery_mode == Delivery.EXTINT:
            self._extint = True
        self._drive()

    def set_extint(self, level: bool) -> None:
        """Drive LINT0, to which a PC wires the output of its 8259 pair."""
        self._set_pin(0, level)

    def set_lint1(self, level: bool) -> None:
        """Drive LINT1, to which a PC wires its NMI sources."""
        self._set_pin(1, level)

    def _set_pin(self, pin: int, level: bool) -> None:
        before = self._pin_active(pin)
        self._pins = self._pins & ~(1 << pin) | bool(level) << pin
        if self._pin_active(pin) and not before:
            self._pin_edge(LvtEntry(self._lvt[reg.LINT0 + pin]), pin)
        self._evaluate_lint0()
        self._drive()

    def _pin_active(self, pin: int) -> bool:
        return bool((self._pins >> pin ^ self._lvt[reg.LINT0 + pin] >> _POLARITY) & 1)

    def _pin_edge(self, entry: LvtEntry, pin: int) -> None:
        """Act on a pin that became active. LINT1 is edge triggered whatever LEVEL says (SDM3 10.5.1)."""
        if entry.MASKED:
            return
        if entry.DELIVERY_MODE == Delivery.NMI:
            self._nmi()
        elif entry.DELIVERY_MODE == Delivery.FIXED and (pin == 1 or not entry.LEVEL):
            self._accept(entry.VECTOR, False)

    def _evaluate_lint0(self) -> None:
        """Send LINT0's level interrupt when it is active, unmasked and not already in service."""
        entry = self._lvt[reg.LINT0]
        if entry & (_SOURCE | _LEVEL | _REMOTE_IRR) == _FIXED_SOURCE | _LEVEL and self._pin_active(0):
            self._lvt[reg.LINT0] |= _REMOTE_IRR
            self._accept(entry & 0xFF, True)

    def _fire_timer(self) -> None:
        entry = self._lvt[reg.TIMER]
        if not entry & _MASKED:
            self._accept(entry & 0xFF, False)

    def _accept(self, vector: int, level_triggered: bool) -> None:
        if not self._svr & _ENABLED:
            return
        if vector < FIRST_LEGAL_VECTOR:
            self._error(ErrorStatus.RECEIVE_ILLEGAL.mask)
            return
        self._vectors.request(vector, level_triggered)

    def _error(self, kind: int) -> None:
        """Note an error; the first of its kind since the last write of ESR interrupts (SDM3 10.5.3)."""
        if self._errors & kind:
            return
        self._errors |= kind
        entry = self._lvt[reg.ERROR]
        if not entry & _MASKED:
            self._accept(entry & 0xFF, False)

    def _deliverable(self) -> int:
        """Return the vector that an acknowledge would get from the IRR, -1 if none."""
        return self._vectors.deliverable() if self._svr & _ENABLED else -1

    def _extint_asks(self) -> bool:
        through_pin = self._lvt[reg.LINT0] & _SOURCE == _EXTINT_SOURCE
        return self._extint or (through_pin and self._pin_active(0))

    def _drive(self) -> None:
        self._output(self.pending())

    # --- register writes --------------------------------------------------------------------------------

    def _write_id(self, value: int) -> None:
        self._identity = value & LocalApicId.ID.mask

    def _write_tpr(self, value: int) -> None:
        self._vectors.tpr = value & 0xFF

    def _write_ldr(self, value: int) -> None:
        self._ldr = value & LogicalDestination.LOGICAL_ID.mask

    def _write_dfr(self, value: int) -> None:
        self._dfr = value | reg.DestinationFormat.ONES.mask

    def _write_esr(self, value: int) -> None:
        self._esr, self._errors = self._errors, 0

    def _write_svr(self, value: int) -> None:
        self._svr = value & ~SpuriousVector.reserved_mask()
        if not self._svr & _ENABLED:
            self._lvt = [entry | _MASKED for entry in self._lvt]

    def _write_lvt(self, number: int, value: int) -> None:
        writable = reg.LVT_WRITABLE[number]
        entry = self._lvt[number] & _REMOTE_IRR | value & writable
        if not self._svr & _ENABLED:
            entry |= _MASKED
        if not entry & _LEVEL:
            entry &= ~_REMOTE_IRR
        if number == reg.TIMER:
            self._timer.set_mode(LvtEntry(entry).TIMER_MODE)
        self._lvt[number] = entry
        self._evaluate_lint0()

    def _write_eoi(self, value: int) -> None:
        """End the highest interrupt in service; a level one is broadcast (SDM3 10.8.5)."""
        vector, level = self._vectors.end()
        if level:
            if self._lvt[reg.LINT0] & 0xFF == vector:
                self._lvt[reg.LINT0] &= ~_REMOTE_IRR
            self._eoi_broadcast(vector)
            self._evaluate_lint0()

    def _write_icr_high(self, value: int) -> None:
        self._icr = self._icr & _DWORD | value << 32 & _ICR_WRITABLE

    def _write_icr_low(self, value: int) -> None:
        """Send an interrupt; what is for other processors reaches nobody (SDM3 10.6.1)."""
        self._icr = self._icr & ~_DWORD | value & _ICR_WRITABLE
        command = InterruptCommand(self._icr)
        fixed = command.DELIVERY_MODE in (Delivery.FIXED, Delivery.LOWEST_PRIORITY)
        if fixed and command.VECTOR < FIRST_LEGAL_VECTOR:
            self._error(ErrorStatus.SEND_ILLEGAL.mask)
        elif not command.reaches(self._identity, self._ldr, self._dfr):
            return
        elif fixed:
            self._accept(command.VECTOR, False)
        elif command.DELIVERY_MODE == Delivery.NMI:
            self._nmi()

    # --- whole states -----------------------------------------------------------------------------------

    def reset(self) -> None:
        """Become as after power-on, with the same APIC ID and the pins as they are (SDM3 10.4.7.1)."""
        self.restore(LocalApicState(identity=self._identity, pins=self._pins))

    def enter_virtual_wire(self) -> None:
        """Do what firmware does before it starts a system: enable, LINT0 ExtINT, LINT1 NMI.

        With it the 8259 reaches the processor through the APIC (MultiProcessor Specification 1.4, 3.6.2.2).
        """
        self.write(reg.SVR, _ENABLED | 0xFF, 4)
        self.write(reg.LVT + 0x10 * reg.LINT0, _EXTINT_SOURCE, 4)
        self.write(reg.LVT + 0x10 * reg.LINT1, Delivery.NMI << LvtEntry.DELIVERY_MODE.lo, 4)

    def save(self) -> LocalApicState:
        """Return all registers, the timer and the levels of the pins."""
        return LocalApicState(
            identity=self._identity,
            tpr=self._vectors.tpr,
            ldr=self._ldr,
            dfr=self._dfr,
            svr=self._svr,
            esr=self._esr,
            errors=self._errors,
            icr=self._icr,
            lvt=LvtState(*self._lvt),
            isr=self._vectors.in_service.to_bytes(32, "little"),
            tmr=self._vectors.level.to_bytes(32, "little"),
            irr=self._vectors.requested.to_bytes(32, "little"),
            pins=self._pins,
            extint=self._extint,
            timer=self._timer.save(),
        )

    def restore(self, state: LocalApicState) -> None:
        """Take over the state, ask again for the timer's next expiration and drive the output."""
        self._take(state)
        self._timer.restore(state.timer)
        self._drive()

    def _take(self, state: LocalApicState) -> None:
        self._identity = state.identity
        self._vectors.tpr = state.tpr
        self._ldr = state.ldr
        self._dfr = state.dfr
        self._svr = state.svr
        self._esr = state.esr
        self._errors = state.errors
        self._icr = state.icr
        self._lvt = list(astuple(state.lvt))
        self._vectors.in_service = int.from_bytes(state.isr, "little")
        self._vectors.level = int.from_bytes(state.tmr, "little")
        self._vectors.requested = int.from_bytes(state.irr, "little")
        self._pins = state.pins
        self._extint = state.extint
