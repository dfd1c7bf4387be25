"""Rings and modes: who is where under each monitor, what the guest is in now, what goes to the browser."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

import vlab
from vlab.errors import UnusableInput
from vlab.isa.state import Mode
from vlab.trace.file import load
from vlab.vmm import monitors
from vlab.vmm.exits import REASONS
from vlab.widgets import qualification, techniques
from vlab.widgets.rings import Rings

_SVG = "{http://www.w3.org/2000/svg}"


def places(view: Rings) -> dict[str, str]:
    """Who is where in the drawing."""
    root = ElementTree.fromstring(view.picture())
    found = {each.get("data-place", ""): each.get("data-about", "") for each in root.iter(f"{_SVG}g")}
    return {place: about.partition(":")[0] for place, about in found.items() if "-" in place}


def runs(view: Rings) -> list[str | None]:
    root = ElementTree.fromstring(view.picture())
    return [
        each.get("data-place") for each in root.iter(f"{_SVG}g") if "runs" in each.get("class", "").split()
    ]


@pytest.mark.parametrize(
    ("monitor", "guest", "living"),
    [
        ("none", "rings", {"host-0": "guest kernel", "host-3": "guest programs"}),
        ("hardware", "rings", {"guest-0": "guest kernel", "guest-3": "guest programs", "host-0": "monitor"}),
        *(
            (name, guest, {"host-1": "guest kernel", "host-3": "guest programs", "host-0": "monitor"})
            for name, guest in (
                ("trap-emulate", "rings"), ("binary-translation", "rings"), ("paravirtual", "wren-paravirt"),
            )
        ),
    ],
)  # fmt: skip
def test_each_monitor_gives_its_own_answer_to_who_owns_ring_0(
    monitor: str, guest: str, living: dict[str, str]
) -> None:
    with vlab.VM(guest, monitor=monitor, trace="full") as vm:
        vm.run(until="$ ", timeout=20)  # the other guest ends
        view = Rings(vm)
        found = places(view)
        assert len(found) == 8  # two modes of four rings, the same for every monitor
        assert {place: who for place, who in found.items() if who != "nobody"} == living
        assert techniques.technique(monitor).idea in view.words()
        kernel = next(place for place, who in living.items() if who == "guest kernel")
        assert runs(view) in ([kernel], [kernel.replace("-0", "-3").replace("-1", "-3")])


def test_every_monitor_and_every_reason_is_explained() -> None:
    assert set(techniques.TECHNIQUES) == {name for name, _ in monitors.available()}
    assert set(qualification.tables()) == set(REASONS)
    hardware, others = techniques.sections("hardware"), techniques.sections("trap-emulate")
    assert set(REASONS) == set(hardware) | set(others)
    assert hardware["NPF"] == "APM2 15.25.6"
    assert all(qualification.tables()[reason]["meaning"] for reason in REASONS)


def test_guest_code_in_real_mode_is_at_ring_3_without_amd_v() -> None:
    assert techniques.technique("trap-emulate").place(0, Mode.REAL) == "host-3"
    assert techniques.technique("hardware").place(0, Mode.REAL) == "guest-0"
    with pytest.raises(UnusableInput, match="monitor: there is no 'xen'; choose one of none, trap-emulate"):
        techniques.technique("xen")


def test_the_view_follows_the_guest_and_sends_the_trace_when_it_stands_still() -> None:
    with vlab.VM("wren", trace="full") as vm:
        view = Rings(vm)
        before = view.now
        vm.run(until="$ ", timeout=20)
        sent = len(view.trace)
        view.refresh()
        assert view.now != before
        assert "the guest's kernel" in view.now
        assert "ring 0 in guest mode" in view.now
        assert len(view.trace) > sent
        same = view.trace
        view.refresh()
        assert view.trace is same
        seen: list[tuple[int, bool]] = []

        def look(vm: vlab.VM) -> bool:
            view.refresh()
            seen.append((view.waiting, view.running))
            return len(seen) == 3

        vm.send("primes 20\n")
        vm.step(20)
        vm.run(look, timeout=20)
        assert view.trace is same
        assert seen[-1][0] > 0
        assert seen[-1][1]
        view.refresh()
        assert (view.waiting, view.running) == (0, False)


def test_a_long_trace_is_sent_on_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlab.widgets.traced.AUTOMATIC", 10)
    with vlab.VM("hello", trace="full") as vm:
        view = Rings(vm)
        empty = view.trace
        vm.run(timeout=20)
        view.refresh()
        assert view.trace == empty
        assert view.waiting == len(vm.exits.source.rows()) >= vm.exits.total
        view._asked(view, {"do": "fetch"}, [])
        assert view.waiting == 0
        assert len(view.trace) > len(empty)


def test_a_vm_that_keeps_no_exits_is_told_how_to_keep_them() -> None:
    with vlab.VM("hello") as vm:
        vm.run(timeout=20)
        view = Rings(vm)
        assert view.note == "the trace level 'counters' keeps no single exits; make the VM with trace='full'"
        assert not view.trace


def test_a_trace_file_is_shown_without_a_vm(tmp_path: Path) -> None:
    with vlab.VM("rings", monitor="trap-emulate", trace="full") as vm:
        vm.run(timeout=20)
        vm.save_trace(tmp_path / "run.vlabtrace")
        part = Rings(vm.exits[10:20])
        assert part.technique["name"] == "trap-emulate"
        assert "the last of 10 exits" in part.now
    view = Rings(load(tmp_path / "run.vlabtrace"))
    assert view.technique["name"] == "trap-emulate"
    assert view.trace.startswith(b"\x8fvlabtr\n")
    assert not view.live
    view._asked(view, {"do": "fetch"}, [])
    assert view.problem == "this view shows a recorded trace; there is no VM behind it"


@pytest.mark.parametrize(
    ("monitor", "guest"),
    [
        ("hardware", "hello"),
        ("binary-translation", "rings"),
        ("paravirtual", "wren-paravirt"),
        ("none", "hello"),
    ],
)
def test_the_monitor_of_exits_that_do_not_say_it_is_told_by_their_handlers(monitor: str, guest: str) -> None:
    with vlab.VM(guest, monitor=monitor, trace="full") as vm:
        vm.run(timeout=20, exits=None if monitor == "none" else 200)
        assert techniques.guess(vm.exits.source) == monitor


def test_what_is_no_run_is_refused() -> None:
    with pytest.raises(
        UnusableInput, match=r"subject: 'x' has no exits to show; give a VM, its vm.exits, or"
    ):
        Rings("x")  # type: ignore[arg-type]


def test_the_static_picture_and_words_stand_for_it() -> None:
    with vlab.VM("hello", trace="full") as vm:
        vm.run(timeout=20)
        data, _ = Rings(vm)._repr_mimebundle_()
        ElementTree.fromstring(data["image/svg+xml"])
        assert "ring 0 in host mode: monitor" in data["text/plain"]


def test_a_closed_vm_leaves_the_view() -> None:
    with vlab.VM("hello", trace="full") as vm:
        view = Rings(vm)
    with pytest.raises(UnusableInput):
        view.refresh()
    assert view.words()
    ElementTree.fromstring(view.picture())


@pytest.mark.parametrize(
    ("exit_", "told"),
    [
        (("IOIO", 0x10103F8, 65), "port 0x3f8, bytes 1, direction OUT: to the device, value 0x41"),
        (("NPF", 0xFEE00000, 0x1_0000_0002), "address 0xfee00000, fault 0x100000002, bits FINAL W"),
        (("PF", 0x1000, 7), "address 0x1000, error code 0x7, bits U W P"),
        (("EXCEPTION", 12, 0x33), "vector #SS stack fault (0xc), error code 0x33, INDEX 0x6, bits IDT EXT"),
        (("EXCEPTION", 6, 0), "vector #UD invalid opcode (0x6), error code 0x0"),
        (("MSR", 0x1B, 1), "number APIC_BASE (0x1b), direction WRMSR"),
        (("TRAP", 5, 0), "instruction MOV CRn"),
        (("VMMCALL", 10, 0x82), "number IRET (0xa), vector INT 82h (0x82)"),
        (("CR", 3, 1), "register CR3 (0x3), direction write"),
        (("HLT", 0, 0), ""),
        (("NEW", 1, 2), "info1 0x1, info2 0x2"),
    ],
)  # fmt: skip
def test_qualifications_are_told_by_the_declared_names(exit_: tuple[str, int, int], told: str) -> None:
    assert qualification.summary(*exit_) == told


def test_each_value_of_a_qualification_has_its_bits_and_meaning() -> None:
    found = {each.name: each for each in qualification.decode("NPF", 0x1000, 1 << 33 | 4)}
    assert (found["TABLE"].text, found["TABLE"].bits) == ("1", "info2 33")
    assert found["TABLE"].meaning == "APM2 15.25.6: while translating a guest page table's address"
    assert found["P"].text == "0"
