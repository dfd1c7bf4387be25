"""Page walks as a view: the references in order, bits from the declarations, faults, and what was typed."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

import vlab
from vlab.errors import UnusableInput
from vlab.widgets.page_walk import PageWalk
from vlab.widgets.showing import view_of
from vlab.widgets.svg import NAMESPACE

CODE, DATA = 0x1001C4, 0x400000
"""Linear addresses of the guest longmode: a 4 KiB page that was executed, and a 2 MiB one never touched."""


def guest(name: str = "longmode", **options: str) -> vlab.VM:
    vm = vlab.VM(name, **options)  # type: ignore[arg-type]
    vm.run(until="$ ", timeout=30)
    return vm


def labels(drawing: str) -> list[str]:
    root = ElementTree.fromstring(drawing)
    found = root.iter(f"{{{NAMESPACE}}}g")
    return [each.attrib["data-label"] for each in found if "data-label" in each.attrib]


def test_the_bare_machine_makes_one_reference_a_level() -> None:
    with guest(monitor="none") as vm:
        view = PageWalk(vm, CODE)
        assert labels(view.picture()) == ["1", "2", "3", "4"]
        assert [view.details[n]["level"] for n in "1234"] == [4, 3, 2, 1]
        assert "The TLB would hold: linear 0x100000 -> host-physical 0x100000, 4 KiB page" in view.words()
        assert view.inner == []


def test_four_levels_on_four_are_a_grid_of_24_references_in_the_order_of_the_hardware() -> None:
    with guest(paging="nested") as vm:
        view = PageWalk(vm, CODE)
        assert labels(view.picture()) == [str(number) for number in range(1, 25)]
        kinds = [view.details[str(number)]["kind"] for number in range(1, 25)]
        assert kinds == (["nested"] * 4 + ["guest"]) * 4 + ["nested"] * 4
        assert view.details["24"]["title"] == "reference 24 of 24: nPTE, nested walk final"
        assert [labels(drawing) for drawing in view.inner][1] == ["6", "7", "8", "9"]
        assert "Nested walk of guest-physical 0x114000" in view.inner[1]


def test_the_page_in_the_tlb_is_the_smaller_of_the_guests_and_the_nested_one() -> None:
    with guest("wren", paging="nested") as vm:
        words = PageWalk(vm, 0xC0100000).words()
        assert "The TLB would hold: linear 0xc0100000 -> host-physical 0x100000, 4 KiB page" in words
        assert "the smaller of guest's 4 MiB and nested 4 KiB" in words


def test_bits_are_told_as_they_are_declared() -> None:
    with guest(monitor="none") as vm:
        view = PageWalk(vm, CODE)
        fields = {field["name"]: field for field in view.details["4"]["fields"]}
        assert fields["NX"] == {
            "name": "NX", "bits": "63", "value": "0", "meaning": "no execute (with EFER.NXE)"
        }  # fmt: skip
        assert view.details["4"]["reference"] == "APM2 5.3.3, figure 5-23"


def test_the_shadow_stands_beside_the_guests_tables_and_differences_are_told_in_words() -> None:
    with guest(paging="shadow") as vm:
        view = PageWalk(vm, CODE)
        assert labels(view.picture()) == ["a", "b", "c", "d", "1", "2", "3", "4"]
        view.wanted = f"{DATA:#x}"
        assert "Not present yet = will be filled" in view.words()
        assert "stopped here" in view.picture()
        view.wanted = "0x5000000000"
        assert "Guest's own fault: its tables map nothing here either" in view.words()


def test_a_page_that_a_translator_watches_is_write_protected_and_not_executable() -> None:
    with guest("wren", monitor="binary-translation") as vm:
        words = PageWalk(vm, "rip").words()
        assert "Write-protected: the monitor must hear of the next write here" in words
        assert "NX until executed" in words


def test_a_fault_says_where_and_why_with_its_error_code_decoded() -> None:
    with guest(paging="nested") as vm:
        view = PageWalk(vm, 0xFEE00000)
        assert "Stopped at reference 10: Pdpe at 0x114018 is not present." in view.words()
        assert "#PF, error code 0x0 (a read by the supervisor of a page that is not present)" in view.words()
        assert "1234567890abcdef is not canonical" in PageWalk(vm, 0x1234567890ABCDEF).words()


def test_what_nested_tables_do_not_map_is_an_exit() -> None:
    with guest("hello", paging="nested") as vm:
        words = PageWalk(vm, 0x9000_0000).words()
        assert "#VMEXIT(NPF), EXITINFO2 = 0x90000000" in words
        assert "while translating the guest's final physical address" in words


def test_a_guest_that_does_not_page_needs_no_table_on_the_bare_machine() -> None:
    with guest("hello", monitor="none") as vm:
        view = PageWalk(vm, 0x7C00)
        assert labels(view.picture()) == []
        assert "Paging is off" in view.words()


@pytest.mark.parametrize(
    ("typed", "address"), [("0x1000", 0x1000), ("4096", 4096), ("ffff_8000", None), (" 0X1000 ", 0x1000)]
)
def test_addresses_are_read_as_people_write_them(typed: str, address: int | None) -> None:
    with guest(monitor="none") as vm:
        view = PageWalk(vm)
        before = view.drawing
        view.wanted = typed
        if address is None:
            assert "did you mean 0xffff8000?" in view.problem
            assert view.drawing == before
        else:
            assert view.problem == ""
            assert f"walk of {address:#x}" in view.words()


def test_what_is_no_address_is_refused_politely() -> None:
    with guest(monitor="none") as vm:
        with pytest.raises(UnusableInput, match="address: 'main' is no address; write it in hexadecimal"):
            PageWalk(vm, "main")
        with pytest.raises(UnusableInput, match="is not between 0 and 0xffffffffffffffff"):
            PageWalk(vm, 1 << 64)
        with pytest.raises(UnusableInput, match=r"address: '1\.5' is no address"):
            PageWalk(vm, 1.5)  # type: ignore[arg-type]
        with pytest.raises(UnusableInput, match="address: 5 is for a VM; this walk is one of 0x1000 already"):
            PageWalk(vm.walk(0x1000), 5)
    with pytest.raises(UnusableInput, match="subject: 5 has no page walk; give a VM"):
        PageWalk(5)  # type: ignore[arg-type]


def test_a_walk_by_itself_is_shown_as_it_was_made() -> None:
    with guest() as vm:
        walk = vm.walk(CODE)
        view = view_of(walk)
        assert isinstance(view, PageWalk)
        assert view.fixed
        data, _ = view._repr_mimebundle_()
        assert "reference 24 of 24" in data["image/svg+xml"]
        assert "24 memory references" in data["text/plain"]
    assert view.alive
    with pytest.raises(UnusableInput, match="vm: this is one walk, made once"):
        _ = view.vm


def test_the_walk_is_made_anew_as_the_guest_runs() -> None:
    with vlab.VM("longmode") as vm:
        view = PageWalk(vm, "RIP")
        assert view.places[0][0] == "RIP"
        before = view.drawing
        vm.run(timeout=20)
        view.refresh()
        assert view.drawing != before
