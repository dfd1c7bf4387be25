"""A probing guest over some paging and on the bare machine."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from vlab.grading.exercise import Broken
from vlab.grading.local import LocalStudent
from vlab.grading.probing import Pair
from vlab.grading.trial import Trial
from vlab.guests.probes import ALL, LEGACY, RW, P, Plan, Tables
from vlab.guests.programs import image, leave
from vlab.isa.paging import Access, Fault
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.paging.shadow.filled import Fill, FilledPaging, Unbacked


class Generous(FilledPaging):
    """Grants programs what the guest's tables do not."""

    def fill(self, linear: int, access: Access) -> Fill | Fault | Unbacked:
        """Let everybody do everything where somebody may do something."""
        found = super().fill(linear, access)
        return Fill(found.gpa) if isinstance(found, Fill) else found


@pytest.fixture
def trial() -> Iterator[Trial]:
    made = Trial(LocalStudent.of_source(""), random.Random(1))
    yield made
    made.close()


def plan() -> Plan:
    made = Plan(Tables(random.Random(3), LEGACY))
    made.some(made.tables.pages(ALL, P | RW), "read", "write")
    made.shuffle()
    return made


def test_paging_that_is_right_shows_no_difference(trial: Trial) -> None:
    pair = Pair(trial, plan(), ShadowPaging())
    assert list(pair.run()) == []
    assert pair.misses > 0


def test_what_paging_should_have_refused_is_a_difference(trial: Trial) -> None:
    tried, mine, right = next(Pair(trial, plan(), Generous()).run())
    assert tried.user
    assert mine.startswith("the value ")
    assert right.startswith("a page fault with error code ")


def test_a_guest_that_fails_on_both_is_a_fault_of_ours(trial: Trial) -> None:
    class Failing(Plan):
        def guest(self) -> bytes:
            return image(leave(6))

    with pytest.raises(RuntimeError, match=r"^the guest to compare with stopped with "):
        list(Pair(trial, Failing(plan().tables), ShadowPaging()).run())


def test_a_guest_that_fails_over_the_students_paging_alone_breaks_what_was_to_hold(trial: Trial) -> None:
    class Watchful(Plan):
        """Fails where CPUID says that there is a hypervisor."""

        def guest(self) -> bytes:
            look = bytes.fromhex("B8 01 00 00 00 0F A2 0F BA E1 1F 73")  # cpuid 1; bt ecx, 31; jnc
            return image(look + bytes((len(leave(6)),)) + leave(6) + leave(0))

    pair = Pair(trial, Watchful(plan().tables), ShadowPaging())
    with pytest.raises(Broken, match="the guest stopped with 'the guest ended with status 6") as broken:
        list(pair.run())
    assert broken.value.vm is pair.yours
