"""Snapshots: all that makes up a virtual machine at one moment, and the way back to it.

What a processor and a monitor only remember of other things (translations, translated code, shadow tables)
is no part of a snapshot. Taking one forgets it just as restoring one does, so that a guest that runs on after
the one and a guest that runs on after the other do the same, exit for exit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from vlab.devices.paravirtual_disk import ParavirtualDiskState
from vlab.devices.state import DeviceState
from vlab.errors import UnusableInput
from vlab.isa.msr import Msr
from vlab.machine import register_image
from vlab.machine.clock import DeterministicClock
from vlab.machine.memory import PAGE
from vlab.machine.register_image import RegisterImage
from vlab.trace.recorder import Mark
from vlab.vmm.console import Console
from vlab.vmm.inputs import Input, Inputs
from vlab.vmm.monitor import Monitor
from vlab.vmm.stop import Stop

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_ZERO: Final = bytes(PAGE)


@dataclass(frozen=True, slots=True)
class Text:
    """A console's text in pieces, which later snapshots share, and how much of it was waited for."""

    pieces: tuple[bytes, ...] = ()
    waited_for: int = 0

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False, repr=False)
class Snapshot:
    """A virtual machine at one moment: ``vm.snapshot()`` takes it, ``vm.restore`` goes there.

    ``time_ns``: virtual time. ``pages``: content by guest frame number, of pages that are not all zero; None
    for memory as the loader left it. ``taken``, ``waiting``: what was typed before, and what was on its way.
    """

    guest: str
    monitor: str
    paging: str
    memory_bytes: int
    time_ns: int
    skipped_ns: int
    registers: RegisterImage
    msrs: Mapping[int, int]
    tsc_offset: int
    state: Mapping[str, int]
    devices: Mapping[str, DeviceState]
    mark: Mark
    ended: Stop | None
    console: Text
    debug_console: Text
    moment: int | None
    pages: Mapping[int, bytes] | None
    taken: tuple[Input, ...] = ()
    waiting: tuple[Input, ...] = ()
    own_bytes: int = 0
    origin: object = field(default_factory=object)

    @property
    def exits(self) -> int:
        """How many exits there had been."""
        return sum(self.mark.counts)

    @property
    def text(self) -> str:
        """What the guest had written on its serial console."""
        return bytes(self.console).decode("utf-8", "replace")

    @property
    def nbytes(self) -> int:
        """Bytes of memory content, shared with other snapshots or not; ``own_bytes`` are not."""
        return len(self.pages or ()) * PAGE

    def __repr__(self) -> str:
        return (
            f"<Snapshot of {self.guest!r} under {self.monitor}/{self.paging} at {self.time_ns / 1e9:.6f} s: "
            f"{self.exits:,} exits, {self.nbytes >> 10:,} KiB, {self.own_bytes >> 10:,} KiB of it new>"
        )


class Snapshots:
    """Takes and restores snapshots of one virtual machine.

    guest: its name. consoles: the serial one and the debug console. reload: for a snapshot without pages,
    reads the guest's image and gives a function that loads it into cleared memory.
    """

    def __init__(
        self,
        guest: str,
        monitor: Monitor,
        consoles: tuple[Console, Console],
        reload: Callable[[], Callable[[], None]],
    ) -> None:
        self._guest = guest
        self._monitor = monitor
        self.consoles: Final = consoles
        self.inputs: Final = Inputs(monitor)
        self._reload = reload
        self.origin: Final = object()

    def take(self, earlier: Snapshot | None = None, *, memory: bool = True) -> Snapshot:
        """Take a snapshot; the guest stands still. Pages that ``earlier`` has too are shared with it.

        memory: False leaves the memory out, to be filled by ``reload``. Raises UnusableInput in mid-exit.
        """
        self._check_standing("snapshot")
        return self._monitor.on_processor(lambda _processor: self._take(earlier, memory))

    def _take(self, earlier: Snapshot | None, memory: bool) -> Snapshot:
        monitor, inputs = self._monitor, self.inputs
        clock, (console, debug_console) = monitor.clock, self.consoles
        before = (earlier.pages if earlier is not None else None) or {}
        pages = copy_pages(monitor.memory.ram, before) if memory else None
        fresh = sum(content is not before.get(number) for number, content in (pages or {}).items())
        snapshot = Snapshot(
            guest=self._guest,
            monitor=monitor.name,
            paging=monitor.paging_name,
            memory_bytes=monitor.memory.size,
            time_ns=clock.now(),
            skipped_ns=clock.skipped if isinstance(clock, DeterministicClock) else 0,
            registers=register_image.take(monitor.processor),
            msrs=dict(monitor.msrs.values),
            tsc_offset=monitor.msrs.tsc_offset,
            state=monitor.save_state(),
            devices=monitor.board.save(),
            mark=monitor.recorder.mark(),
            ended=monitor.ended,
            console=_text(console, earlier.console if earlier else Text()),
            debug_console=_text(debug_console, earlier.debug_console if earlier else Text()),
            moment=monitor.moment,
            pages=pages,
            taken=tuple(inputs.log[: inputs.taken]),
            waiting=inputs.on_their_way(),
            own_bytes=fresh * PAGE,
            origin=self.origin,
        )
        self.settle()
        return snapshot

    def with_memory(self, snapshot: Snapshot) -> Snapshot:
        """Give a snapshot without pages the memory that there is now, right after it was restored."""
        return replace(snapshot, pages=copy_pages(self._monitor.memory.ram, {}))

    def settle(self) -> None:
        """Forget what processor and monitor remember of tables and memory, as restoring a snapshot does."""
        self._monitor.restore_state(self._monitor.save_state())
        self._forget_translations()

    def _forget_translations(self) -> None:
        processor = self._monitor.processor
        processor.engine.flush_tlb()
        processor.mmu.forget_nested()
        processor.code.forget()

    def restore(self, snapshot: Snapshot) -> None:
        """Go to another moment, of this virtual machine or of another with the same guest and monitor.

        The guest stands still. Raises UnusableInput, with nothing changed, for a snapshot that does not fit.
        """
        self._check_standing("restore")
        self.check_fit(snapshot)
        load = self._reload() if snapshot.pages is None else None
        self._monitor.on_processor(lambda _processor: self._restore(snapshot, load))

    def _restore(self, snapshot: Snapshot, load: Callable[[], None] | None) -> None:
        monitor, inputs = self._monitor, self.inputs
        clock = monitor.clock
        clock.set(snapshot.time_ns)
        if isinstance(clock, DeterministicClock):
            clock.skipped = snapshot.skipped_ns
        put_pages(monitor.memory.ram, snapshot.pages or {})
        if load is not None:
            load()
        register_image.put(monitor.processor, snapshot.registers)
        monitor.msrs.values = dict(snapshot.msrs)
        monitor.msrs.tsc_offset = snapshot.tsc_offset
        monitor.board.restore(snapshot.devices)
        monitor.msrs.on_apic_base(monitor.msrs.read(Msr.APIC_BASE) or 0)
        monitor.restore_state(snapshot.state)
        monitor.processor.engine.flush_code()
        self._forget_translations()
        monitor.ended, monitor.moment = snapshot.ended, snapshot.moment
        monitor.recorder.truncate(snapshot.mark)
        for console, text in zip(self.consoles, (snapshot.console, snapshot.debug_console), strict=True):
            console.become(bytes(text), text.waited_for)
        known = snapshot.origin is self.origin and tuple(inputs.log[: len(snapshot.taken)]) == snapshot.taken
        log = inputs.log if known else [*snapshot.taken, *snapshot.waiting]
        inputs.restore(log, len(snapshot.taken), len(snapshot.waiting))

    def _check_standing(self, what: str) -> None:
        """Refuse in mid-instruction; between two, see to it that what was asked for before is done."""
        if self._monitor.in_guest:
            raise UnusableInput(
                f"{what}: the guest is in the middle of an instruction; do it between two, in a predicate of "
                "run(), not in a handler or console listener"
            )
        self._monitor.run_inbox()

    def check_fit(self, snapshot: Snapshot) -> None:
        """Raise UnusableInput if the snapshot cannot be restored here."""
        monitor = self._monitor
        here = (
            ("guest", self._guest, snapshot.guest),
            ("monitor", monitor.name, snapshot.monitor),
            ("paging", monitor.paging_name, snapshot.paging),
            ("memory", f"{monitor.memory.size >> 10}K", f"{snapshot.memory_bytes >> 10}K"),
        )
        for what, ours, theirs in here:
            if ours != theirs:
                raise UnusableInput(
                    f"snapshot: it was taken with {what} {theirs!r} and this VM has {ours!r}; "
                    "make a VM that is alike"
                )
        build = register_image.build_of(monitor.processor.engine.layout)
        if snapshot.registers.build != build:
            raise UnusableInput(
                f"snapshot: it holds registers in the layout {snapshot.registers.build}, and the emulator "
                f"here has {build}; restore it with the unicorn release that it was taken with"
            )
        if len(snapshot.mark.counts) != len(monitor.recorder.counts):
            raise UnusableInput(
                "snapshot: it counts other reasons for exits; restore it with the vlab that took it"
            )
        self._check_devices(snapshot)
        if why := monitor.misfit(snapshot.state):
            raise UnusableInput(f"snapshot: {why}")

    def _check_devices(self, snapshot: Snapshot) -> None:
        chips = self._monitor.board.devices
        if set(chips) != set(snapshot.devices):
            odd = ", ".join(sorted(set(chips) ^ set(snapshot.devices)))
            raise UnusableInput(f"snapshot: only one of it and this VM has: {odd}; make a VM that is alike")
        theirs = snapshot.devices.get("disk")
        if isinstance(theirs, ParavirtualDiskState):
            ours = chips["disk"].save()
            assert isinstance(ours, ParavirtualDiskState)
            if ours.image_digest != theirs.image_digest:
                raise UnusableInput(
                    "snapshot: it was taken with another disk image; give this VM the same one"
                )


# --- memory and text --------------------------------------------------------------------------------


def state_hash(monitor: Monitor) -> str:
    """Digest of what the guest can know of itself: registers and memory."""
    digest = hashlib.sha256(repr(monitor.guest_state()).encode())
    digest.update(monitor.memory.ram)
    return digest.hexdigest()


def copy_pages(ram: memoryview, earlier: Mapping[int, bytes]) -> dict[int, bytes]:
    """Copy the pages that are not all zero; one that is as in ``earlier`` is not copied but shared."""
    pages = {}
    for number in used_pages(ram).tolist():
        content = bytes(ram[number * PAGE : (number + 1) * PAGE])
        known = earlier.get(number)
        pages[number] = known if known == content and known is not None else content
    return pages


def put_pages(ram: memoryview, pages: Mapping[int, bytes]) -> None:
    """Give memory this content, and zero where ``pages`` has nothing."""
    for number in used_pages(ram).tolist():
        if number not in pages:
            ram[number * PAGE : (number + 1) * PAGE] = _ZERO
    for number, content in pages.items():
        ram[number * PAGE : (number + 1) * PAGE] = content


def used_pages(ram: memoryview) -> npt.NDArray[np.intp]:
    """Give the numbers of the pages that are not all zero, lowest first."""
    import numpy as np

    words = np.frombuffer(ram, np.uint64).reshape(-1, PAGE // 8)
    return np.flatnonzero(np.bitwise_or.reduce(words, axis=1))


def _text(console: Console, earlier: Text) -> Text:
    data, pieces, place = console.data, [], 0
    for piece in earlier.pieces:
        if data[place : place + len(piece)] != piece:
            break
        pieces.append(piece)
        place += len(piece)
    if place < len(data):
        pieces.append(bytes(data[place:]))
    return Text(tuple(pieces), console.waited_for)
