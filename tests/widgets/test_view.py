"""What all views have in common: a picture for where no kernel is, and a virtual machine that may go."""

from __future__ import annotations

import gc
import weakref

import pytest

import vlab
from tests.widgets.waiting import wait_for
from vlab.errors import UnusableInput
from vlab.widgets.screen import Screen
from vlab.widgets.showing import VIEWS, show, view_of


def test_a_view_follows_the_guest_and_has_a_picture_and_words() -> None:
    with vlab.VM("hello") as vm:
        screen = Screen(vm)
        assert "hello" not in screen.words()
        vm.run(timeout=20)
        wait_for(lambda: "hello" in screen.words())
        data, _ = screen._repr_mimebundle_()
        assert "hello" in data["image/svg+xml"]
        assert "hello" in data["text/plain"]
        assert "application/vnd.jupyter.widget-view+json" in data


def test_a_view_says_that_its_vm_is_gone() -> None:
    vm = vlab.VM("hello")
    screen = Screen(vm)
    vm.close()
    wait_for(lambda: not screen.alive)
    with pytest.raises(UnusableInput, match="the VM of this view is gone; run the cell that makes it again"):
        _ = screen.vm


def test_a_view_does_not_keep_its_vm() -> None:
    vm = vlab.VM("hello")
    screen, reference = Screen(vm), weakref.ref(vm)
    del vm
    gc.collect()
    wait_for(lambda: reference() is None)
    wait_for(lambda: not screen.alive)


def test_a_part_of_a_vm_is_shown_as_a_view_that_follows_the_vm() -> None:
    with vlab.VM("hello") as vm:
        assert view_of(vm.screen).vm is vm


def test_what_has_no_view_is_refused_politely() -> None:
    with pytest.raises(UnusableInput, match=r"show: 5 has no view; give a VM, vm\.exits"):
        show(5)
    with pytest.raises(UnusableInput, match="columns: 0 is too few"):
        show(columns=0)
    with pytest.raises(UnusableInput, match=r"vm: 5 is no virtual machine; make one with vlab\.VM"):
        Screen(5)  # type: ignore[arg-type]


def test_show_composes_views() -> None:
    with vlab.VM("hello") as vm:
        made = vlab.show(vm.screen, Screen(vm), columns=2)
        assert [isinstance(child, Screen) for child in made.children] == [True, True]


def test_every_type_and_view_that_is_registered_exists() -> None:
    from importlib import import_module

    for place in [*VIEWS, *VIEWS.values()]:
        module, name = place
        assert hasattr(import_module(module), name)
