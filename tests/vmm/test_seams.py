"""A monitor and chips of one's own take the place of vlab's, and what does not fit is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vlab
from vlab.devices.serial16550a import Serial16550A
from vlab.errors import UnusableInput
from vlab.guests.programs import CPUID, guest, leave, say
from vlab.vmm import exits
from vlab.vmm.exits import HardwareExit
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.trap_emulate import TrapAndEmulate
from vlab.vmm.verdicts import RESUME, Verdict


class OtherProcessor(HardwareMonitor):
    """Tells of a processor whose CPUID gives 1234h in EAX."""

    def handle(self, exit_: HardwareExit) -> Verdict:
        if isinstance(exit_, exits.Cpuid):
            self.core.words[0] = 0x1234
            self.processor.skip(2)
            return RESUME
        return super().handle(exit_)


class Upper(Serial16550A):
    """A serial port that sends capitals."""

    def __init__(self, *, irq: Callable[[bool], None], transmit: Callable[[int], None]) -> None:
        super().__init__(irq=irq, transmit=lambda byte: transmit(ord(chr(byte).upper())))


LEAVE_WITH_AL = bytes.fromhex("E6 F4 EB FE")  # out F4h, al: the status


@pytest.mark.parametrize("paging", ["nested", "shadow"])
def test_a_monitor_of_ones_own_serves_what_it_overrides(tmp_path: Path, paging: str) -> None:
    with vlab.VM(guest(tmp_path, CPUID + LEAVE_WITH_AL), monitor=OtherProcessor, paging=paging) as vm:
        assert vm.run().exit_code == 0x34
        assert vm.monitor == "hardware"
        assert vm.paging == paging


def test_a_monitor_of_ones_own_can_be_any_technique(tmp_path: Path) -> None:
    class Mine(TrapAndEmulate):
        name = "mine"

    with vlab.VM(guest(tmp_path, leave(3)), monitor=Mine) as vm:
        assert isinstance(vm.vmm, Mine)
        assert vm.run().exit_code == 3
        assert vm.monitor == "mine"
        assert vm.paging == "shadow"


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        (
            dict,
            "monitor: dict is not derived from one of vlab's monitors; give a name, or a class",
        ),
        ("mine", "monitor: there is no 'mine'; choose one of none, trap-emulate, "),
    ],
)
def test_what_is_no_monitor_is_refused(tmp_path: Path, monitor: Any, message: str) -> None:
    with pytest.raises(UnusableInput) as refusal:
        vlab.VM(guest(tmp_path, leave(0)), monitor=monitor)
    assert str(refusal.value).startswith(message)


def test_a_paging_that_does_not_go_with_ones_own_monitor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="'direct' does not go with the monitor hardware; choose"):
        vlab.VM(guest(tmp_path, leave(0)), monitor=OtherProcessor, paging="direct")


@pytest.mark.parametrize("monitor", ["none", "trap-emulate", "hardware"])
def test_a_chip_of_ones_own_takes_the_place_of_vlabs(tmp_path: Path, monitor: str) -> None:
    with vlab.VM(guest(tmp_path, say("hello") + leave(0)), monitor=monitor, devices={"serial": Upper}) as vm:
        vm.run()
        assert vm.console.text == "HELLO"


def test_a_saved_machine_goes_on_with_ones_own_parts(tmp_path: Path) -> None:
    path, code = tmp_path / "saved", say("one") + say("two") + CPUID + LEAVE_WITH_AL
    image = guest(tmp_path, code)
    with vlab.VM(image, monitor=OtherProcessor, devices={"serial": Upper}) as vm:
        vm.run(until="ONE")
        vm.save(path)
    with vlab.VM.load(path, monitor=OtherProcessor, devices={"serial": Upper}) as vm:
        assert vm.run().exit_code == 0x34
        assert vm.console.text == "ONETWO"
    with vlab.VM.load(path) as vm:
        assert vm.run().exit_code != 0x34
        assert vm.console.text == "ONEtwo"


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (
            {"uart": Upper},
            "devices: no chip 'uart' can be brought along; choose from pic, pit, ",
        ),
        ({"serial": 5}, "devices: 5 for serial makes no chip; give a class, or a function of the same wires"),
        ([Upper], "devices: [<class "),
    ],
)
def test_what_is_no_chip_is_refused(tmp_path: Path, devices: Any, message: str) -> None:
    with pytest.raises(UnusableInput) as refusal:
        vlab.VM(guest(tmp_path, leave(0)), devices=devices)
    assert str(refusal.value).startswith(message)
