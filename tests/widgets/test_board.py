"""The devices board: registers from states, never read; lines in words; a log out of the trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

import vlab
from vlab.devices.local_apic_registers import LvtEntry
from vlab.devices.serial_registers import InterruptEnable
from vlab.errors import UnusableInput
from vlab.widgets.board import Board
from vlab.widgets.showing import view_of


class Heard(Board):
    """A board that keeps what it sends."""

    def __init__(self, vm: vlab.VM) -> None:
        self.sent: list[dict[str, Any]] = []
        super().__init__(vm)

    def send(self, content: Any, buffers: Any = None) -> None:
        self.sent.append(content)


@pytest.fixture
def vm() -> Iterator[vlab.VM]:
    with vlab.VM("wren", trace="full") as vm:
        yield vm


def named(board: Board, chip: str) -> dict[str, str]:
    names = next(each["registers"] for each in board.chips if each["name"] == chip)
    return {name: value for (name, _), value in zip(names, board.values[chip], strict=True)}


def test_every_chip_and_every_register_is_there_with_its_bits(vm: vlab.VM) -> None:
    board = Board(vm)
    assert [chip["name"] for chip in board.chips] == list(vm.devices)
    serial = next(chip for chip in board.chips if chip["name"] == "serial")
    assert serial["title"] == "16550A serial port"
    assert serial["where"] == "ports 3F8h to 3FFh"
    assert ["ier", "InterruptEnable"] in serial["registers"]
    kind = board.kinds["InterruptEnable"]
    assert kind["reference"] == InterruptEnable.REFERENCE
    assert kind["fields"][-1] == ["ERBFI", 0, 0, InterruptEnable.ERBFI.meaning, {}]
    modes = {field[0]: field[4] for field in board.kinds["LvtEntry"]["fields"]}["DELIVERY_MODE"]
    assert modes["7"] == LvtEntry.DELIVERY_MODE.label(7) == "EXTINT"


def test_a_register_follows_the_guest_and_only_what_changed_is_sent(vm: vlab.VM) -> None:
    board = Heard(vm)
    board.sent.clear()
    board.refresh()
    assert board.sent == []
    vm.run(until="$ ", timeout=60)
    board.refresh()
    assert named(board, "serial")["ier"] == "0x1"
    changes: dict[str, Any] = {}
    for message in board.sent:
        for chip, registers in message["registers"].items():
            changes.setdefault(chip, {}).update(registers)
    assert "vga" not in changes
    assert changes["serial"]["0"] == "0x1"
    assert len(changes["serial"]) < len(board.values["serial"])


def test_values_and_log_go_change_by_change_and_whole_when_a_browser_asks(vm: vlab.VM) -> None:
    board = Board(vm)
    assert not board._should_send_property("values", {})
    assert not board._should_send_property("accesses", [])
    assert board._should_send_property("wires", {})
    asked: list[object] = []
    board.send_state = lambda key=None: asked.append(key)  # type: ignore[method-assign]
    board._handle_custom_msg({"kind": "whole"}, [])
    assert ["values", "accesses"] in asked


def test_looking_reads_no_register(vm: vlab.VM) -> None:
    vm.run(until="$ ", timeout=60)
    vm.send("echo abc\n")
    before = vm.state_hash(), vm.devices.states()
    board = Board(vm)
    for _ in range(3):
        board.refresh()
    assert (vm.state_hash(), vm.devices.states()) == before
    stop = vm.run(until="abc\r", timeout=60)
    assert stop.kind == "expected"


def test_the_log_names_chips_and_registers(vm: vlab.VM) -> None:
    board = Board(vm)
    vm.run(until="$ ", timeout=60)
    board.refresh()
    rows = [tuple(row[1:]) for row in board.accesses]
    assert ("8259 pair", "ICW1, OCW2 or OCW3", "20h", "writes", "0x11") in rows
    assert ("8259 pair", "IMR or ICW2 to ICW4", "21h", "writes", "0x20") in rows
    assert ("16550A serial port", "LSR", "3FDh", "reads", "0x60") in rows
    assert rows[-1] == ("16550A serial port", "THR", "3F8h", "writes", "0x20")
    assert board.logged == len(board.accesses) == 39


def test_the_log_keeps_two_hundred_and_begins_anew_when_time_is_turned_back(vm: vlab.VM) -> None:
    start = vm.snapshot()
    board = Heard(vm)
    vm.run(until="$ ", timeout=60)
    vm.send("ls\n" * 20)
    vm.run(exits=600, timeout=60)
    board.refresh()
    assert len(board.accesses) == 200
    assert board.logged == 200
    vm.restore(start)
    board.sent.clear()
    board.refresh()
    assert board.accesses == []
    assert board.sent[-1]["again"] is True


def test_without_a_full_trace_there_is_no_log() -> None:
    with vlab.VM("hello") as vm:
        vm.run(timeout=20)
        board = Board(vm)
        assert board.logged == -1
        assert board.accesses == []


def test_lines_are_told_in_words_and_interrupts_light_them(vm: vlab.VM) -> None:
    vm.run(until="$ ", timeout=60)
    board = Board(vm)
    assert board.wires["pic8"] == ["masked", False]
    assert board.wires["pic0"] == ["ready", False]
    assert board.wires["pin4"] == ["masked", False]
    vm.send("echo hello\n")
    vm.run(until="hello\r", timeout=60)
    board.refresh()
    word, lit = board.wires["pic4"]
    assert word.startswith("ready, ")
    assert word.endswith(" taken")
    assert lit
    assert board.wires["cpu"][1]


def test_the_picture_has_a_place_for_every_word(vm: vlab.VM) -> None:
    board = Board(vm)
    root = ElementTree.fromstring(board.picture())
    words = {each.attrib["data-word"]: each.text for each in root.iter() if "data-word" in each.attrib}
    assert words == {name: word for name, (word, _) in board.wires.items()}
    lit = {each.attrib["data-wire"] for each in root.iter() if "data-wire" in each.attrib}
    assert lit == set(board.wires)
    data, _ = board._repr_mimebundle_()
    assert "16550A serial port, ports 3F8h to 3FFh" in data["text/plain"]
    assert data["image/svg+xml"].startswith("<svg")


def test_vm_devices_is_a_mapping_that_is_shown_as_its_board(vm: vlab.VM) -> None:
    assert vm.devices is vm.devices
    assert "serial" in vm.devices
    assert len(vm.devices) == len(list(vm.devices))
    assert repr(vm.devices["serial"]).startswith("16550A serial port, ports 3F8h to 3FFh:\n  ier ")
    assert "  pit                  8254 timer" in repr(vm.devices)
    board = view_of(vm.devices)
    assert isinstance(board, Board)
    assert board.vm is vm


def test_an_unknown_device_and_a_closed_vm_are_told_in_words(vm: vlab.VM) -> None:
    with pytest.raises(KeyError) as missing:
        vm.devices["sound"]
    assert str(missing.value).startswith("devices: there is none named 'sound'; this VM has pic, local_apic,")
    with pytest.raises(UnusableInput, match=r"vm: 5 is no virtual machine; make one with vlab\.VM"):
        Board(5)  # type: ignore[arg-type]
    chip = vm.devices["serial"]
    vm.close()
    with pytest.raises(UnusableInput, match="this VM is closed; make a new one"):
        _ = chip.state


def test_a_refresh_is_quick(vm: vlab.VM) -> None:
    vm.run(until="$ ", timeout=60)
    board = Board(vm)
    began = time.process_time()
    for _ in range(50):
        board.refresh()
    assert (time.process_time() - began) / 50 < 0.01
