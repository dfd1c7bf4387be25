"""The distribution's own Linux kernel, unmodified: to its shell, with new chips and old ones, and off."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

import vlab
from tests.ticking import Ticking
from vlab.session import Stop, StopKind

pytestmark = [pytest.mark.linux, pytest.mark.slow]

PROMPT = "# "
BOOT = 180.0
"""Seconds of wall time in which even a busy computer boots; alone it needs a few."""
OLD_CHIPS = "nolapic noapic acpi=off pci=off"
"""What leaves the kernel the interrupt controllers and the timer of a PC of 1990."""
TEXT = 0xFFFFFFFF81000000
"""Where an x86-64 kernel without address randomisation has its code."""


class Linux:
    """A Linux at its prompt, booted when it is first asked for and again when a test has ended it."""

    def __init__(self, **options: object) -> None:
        self.options = options
        self._vm: vlab.VM | None = None

    @property
    def vm(self) -> vlab.VM:
        if self._vm is None:
            self._vm = vlab.VM("linux", **self.options)  # type: ignore[arg-type]
            self._boot(self._vm)
        return self._vm

    def _boot(self, vm: vlab.VM) -> None:
        """Boot in the background; ``ticking`` says how long this thread waited each time for its turn."""
        vm.start(until=PROMPT, timeout=BOOT)
        self.ticking = Ticking()
        while (stop := vm.wait(0.001)) is None:
            self.ticking.tick()
        assert stop.kind == StopKind.EXPECTED, vm.console.text[-2000:]

    def command(self, line: str) -> str:
        """Type a line and give what it prints, up to the next prompt."""
        start = len(self.vm.console.data)
        self.vm.send(f"{line}; echo done=$?\r")
        self.vm.run(until="done=", timeout=60)  # what was typed comes back first
        stop = self.vm.run(until="done=", timeout=60)
        assert stop.kind == StopKind.EXPECTED, self.vm.console.text[start:]
        assert self.vm.run(until=PROMPT, timeout=60).kind == StopKind.EXPECTED
        return self.vm.console.text[start:]

    def end(self, line: str, until: str | None = None) -> Stop:
        """Type a line that ends the guest, and give its end."""
        self.vm.send(line + "\r")
        stop = self.vm.run(until, timeout=60)
        self.close()
        return stop

    def close(self) -> None:
        if self._vm is not None:
            self._vm.close()
            self._vm = None


@pytest.fixture(scope="module")
def linux() -> Iterator[Linux]:
    """As the catalogue has it: with the local APIC, the I/O APIC and ACPI."""
    guest = Linux()
    yield guest
    guest.close()


@pytest.fixture(scope="module")
def old_linux() -> Iterator[Linux]:
    """With 8259 and 8254 alone."""
    guest = Linux(append=OLD_CHIPS)
    yield guest
    guest.close()


def interrupts(table: str) -> dict[str, int]:
    """Read /proc/interrupts: row name -> count on the one processor."""
    return {row[1]: int(row[2]) for row in re.finditer(r"(?m)^\s*(\w+):\s+(\d+)", table)}


def test_it_boots_to_its_shell(linux: Linux) -> None:
    text = linux.vm.console.text
    for words in (
        "Linux version",
        "Command line: console=ttyS0 nokaslr\r\n",
        "ACPI: Core revision",
        "Switch to symmetric I/O mode",
        "vlab: userspace reached",
        "BusyBox",
    ):
        assert words in text
    for trouble in ("Oops", "BUG:", "Call Trace", "Kernel panic", "WARNING: CPU"):
        assert trouble not in text, text[text.index(trouble) - 500 :][:2000]


def test_other_work_went_on_while_it_booted(linux: Linux) -> None:
    _ = linux.vm
    ours, wall = linux.ticking.ours, linux.ticking.wall
    assert len(ours) > 500
    assert ours[-5] < 0.1, ours[-5:]
    assert wall[-1] < 0.5, wall[-5:]


def test_it_answers_what_is_typed(linux: Linux) -> None:
    assert "x86_64 GNU/Linux" in linux.command("uname -a")
    assert "42" in linux.command("echo $((6 * 7))")
    assert "AuthenticAMD" in linux.command("cat /proc/cpuinfo")


def test_its_local_apic_timer_ticks_and_its_io_apic_carries_the_console(linux: Linux) -> None:
    first = linux.command("cat /proc/interrupts")
    delivered = linux.vm.interrupts_delivered
    linux.command("sleep 1")
    before, after = interrupts(first), interrupts(linux.command("cat /proc/interrupts"))
    assert re.search(r"4:\s+\d+\s+IO-APIC", first)
    assert after["LOC"] - before["LOC"] >= 20  # it stops ticking while there is nothing to do
    assert after["4"] > before["4"]
    counted = sum(after[row] - before[row] for row in ("0", "4", "LOC"))
    assert linux.vm.interrupts_delivered - delivered >= counted * 0.8


def test_a_walk_goes_through_both_sets_of_tables(linux: Linux) -> None:
    walk = linux.vm.walk(TEXT)
    assert [reference.step.level for reference in walk.references][:2] == [4, 3]
    assert walk.physical is not None
    assert walk.host is not None
    assert 12 <= walk.memory_references <= 24  # large pages on either side save some of the 24
    assert all(2 <= len(reference.nested) <= 4 for reference in walk.references)
    assert (
        linux.vm.memory[walk.physical : walk.physical + 16] == linux.vm.machine.memory.bytes[walk.host :][:16]
    )


def test_its_exits_are_told_by_reason(linux: Linux) -> None:
    linux.vm.run(timeout=0.5)  # it waits at its prompt
    reasons = dict(linux.vm.exits.by_reason())
    assert {"IOIO", "CPUID", "HLT", "MSR"} <= set(reasons)
    assert sum(reasons.values()) == linux.vm.exits.total


def test_at_its_prompt_it_leaves_the_processor_alone(linux: Linux) -> None:
    vm = linux.vm
    vm.run(timeout=1)  # its time jumps ahead for some seconds after the last output
    busy = time.process_time()
    vm.run(timeout=1.5)
    assert time.process_time() - busy < 0.45


def test_it_can_be_paused_and_looked_at_from_beside(linux: Linux) -> None:
    vm = linux.vm
    vm.send("i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); done; echo counted $i\r")
    vm.start(until="counted 3000")
    for _ in range(20):
        assert vm.registers().cr3
        stop = vm.pause()
        assert stop is not None
        if stop.kind == StopKind.EXPECTED:
            break
        vm.start(until="counted 3000")
    stop = vm.wait(60)
    assert stop is not None
    assert stop.kind in (StopKind.EXPECTED, StopKind.PAUSED)
    if stop.kind == StopKind.PAUSED:
        assert vm.run(until="counted 3000", timeout=60).kind == StopKind.EXPECTED
    assert vm.run(until=PROMPT, timeout=60).kind == StopKind.EXPECTED


def test_it_powers_the_machine_off(linux: Linux) -> None:
    _ = linux.vm
    stop = linux.end("poweroff -f")
    assert (stop.kind, stop.story) == (StopKind.POWERED_OFF, "the guest powered the machine off")


# --- with the chips of 1990 -------------------------------------------------------------------------------


def test_it_boots_without_apic_and_acpi(old_linux: Linux) -> None:
    text = old_linux.vm.console.text
    assert "userspace reached" in text
    assert "ACPI: Core revision" not in text
    for trouble in ("Oops", "BUG:", "Call Trace", "WARNING: CPU"):
        assert trouble not in text, text[text.index(trouble) - 500 :][:2000]


def test_its_timer_interrupts_are_counted_on_both_sides(old_linux: Linux) -> None:
    first = old_linux.command("cat /proc/interrupts")
    assert re.search(r"4:\s+\d+\s+XT-PIC", first)
    delivered = old_linux.vm.interrupts_delivered
    old_linux.command("sleep 1")
    before, after = interrupts(first), interrupts(old_linux.command("cat /proc/interrupts"))
    assert after["0"] - before["0"] >= 20
    assert after["4"] > before["4"]
    counted = sum(after[row] - before[row] for row in ("0", "4"))
    assert old_linux.vm.interrupts_delivered - delivered >= counted * 0.8


def test_without_acpi_it_ends_in_a_halt_that_is_told(old_linux: Linux) -> None:
    _ = old_linux.vm
    stop = old_linux.end("poweroff -f")
    assert stop.kind == StopKind.HALTED
    assert "with interrupts disabled; nothing can wake it" in stop.story


# --- other machines ---------------------------------------------------------------------------------------


def boot(**options: object) -> Linux:
    guest = Linux(**options)
    _ = guest.vm
    return guest


@pytest.mark.parametrize("memory", [96, 256])
def test_it_finds_the_memory_that_it_is_given(memory: int) -> None:
    guest = boot(memory=f"{memory}M")
    try:
        match = re.search(r"MemTotal:\s+(\d+) kB", guest.command("cat /proc/meminfo"))
        assert match is not None
        total = int(match[1]) / 1024
        assert memory * 0.5 < total < memory
    finally:
        guest.close()


def test_under_the_realtime_clock_its_second_is_ours_and_reboot_resets_the_machine() -> None:
    guest = boot(clock="realtime")
    try:
        started = time.monotonic()
        guest.command("sleep 1")
        assert 0.9 < time.monotonic() - started < 6
        year = time.strftime("%Y")
        assert year in guest.command("date")
        stop = guest.end("reboot -f")
        assert stop.kind == StopKind.RESET
        assert stop.story.startswith("the guest reset the machine through")
    finally:
        guest.close()


def test_the_bare_machine_boots_it_too() -> None:
    guest = boot(monitor="none")
    try:
        assert "x86_64 GNU/Linux" in guest.command("uname -a")
    finally:
        guest.close()


def test_two_take_turns_on_one_processor_and_see_nothing_of_one_another() -> None:
    machine = vlab.Machine("256M")
    vms = [vlab.VM("linux", machine=machine, memory="112M") for _ in range(2)]
    try:
        for vm in vms:
            vm.start(until=PROMPT, timeout=2 * BOOT)
        for vm in vms:
            stop = vm.wait()
            assert stop is not None
            assert stop.kind == StopKind.EXPECTED, vm.console.text[-2000:]
        boots = [vm.console.text.replace("\r", "") for vm in vms]
        assert boots[0] == boots[1]
        for number, vm in enumerate(vms):
            vm.send(f"secret=guest-number-{number}; echo $secret > /tmp/secret; echo stored-$?\r")
        for _ in range(100):  # explicit slices, in turn
            for vm in vms:
                vm.run(timeout=0.02)
            if all("stored-0" in vm.console.text for vm in vms):
                break
        for number, vm in enumerate(vms):
            memory = bytes(vm.memory)
            assert b"guest-number-%d" % number in memory
            assert b"guest-number-%d" % (1 - number) not in memory
    finally:
        for vm in vms:
            vm.close()
        machine.close()


def test_binary_translation_boots_it_to_its_shell() -> None:
    """On a processor without virtualization extensions, and without a change to the kernel."""
    with vlab.VM("linux", monitor="binary-translation") as vm:
        assert vm.run(until=PROMPT, timeout=4 * BOOT).kind is StopKind.EXPECTED, vm.console.text[-2000:]
        start = len(vm.console.data)
        vm.send("uname -sm; echo done=$((6 * 7))\r")
        assert vm.run(until="done=42", timeout=BOOT).kind is StopKind.EXPECTED
        assert "Linux x86_64" in vm.console.text[start:]
        told = vm.translation
        assert told is not None
        assert told.counts.blocks > 10_000
        assert not vm.silent
