"""Lesson 10: what it reveals, and hypercalls and kernels that no solution would write."""

from __future__ import annotations

import pytest

from tests.labs.running import broken, exercises, marked, solution

HYPERCALLS, BATCHING = (each.values[1] for each in exercises("10"))
CONSOLE = "def console_write(hv, address, length):\n    return 0\n\n\n"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("return None", "mmu_update returned None; the guest finds it in EAX, so it has to be a number"),
        ("return True", "mmu_update returned True"),
        ("return 1 << 40", "mmu_update returned 1099511627776"),
        ("return count", "updates from 0x"),
        ("hv.write(0x1000, 7)", "you write 0x7 into 0x1000; next is 0x"),
        ("hv.write('x', 7)", "address: 'x' is no number of 32 bits"),
        ("hv.use(0)", "address: 0x0 is not in the guest's memory; ask owns() first"),
        ("hv.monitor", "monitor"),
    ],
)
def test_an_update_that_was_not_asked_for_is_not_made(line: str, why: str) -> None:
    cell = f"{CONSOLE}def mmu_update(hv, address, count):\n    {line}\n"
    found = broken(marked(HYPERCALLS, cell))
    assert why in found["order"], found
    assert "foreign" in found


def test_everything_in_order_is_written_however_often_it_is_looked_at() -> None:
    cell = solution("10", "hypercalls").replace(
        "    done = 0\n", "    hv.read(address, 8 * count)\n    done = 0\n"
    )
    assert broken(marked(HYPERCALLS, cell)) == {}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("kernel.mmu_update([])", "the kernel's buffer holds from 1 to 64 updates; you give it 0"),
        (
            "kernel.mmu_update([[entry, value]] * 65)",
            "the kernel's buffer holds from 1 to 64 updates; you give it 65",
        ),
        ("kernel.mmu_update(7)", "the kernel's buffer holds from 1 to 64 updates; you give it 7"),
        ("kernel.mmu_update([[1, 2, 3]])", "updates: [1, 2, 3] is no pair of entry address and value"),
        ("kernel.mmu_update([[entry, -1]])", "value: -1 is no number of 32 bits"),
        ("kernel.flush_page(None)", "address: None is no number of 32 bits"),
        (
            "[kernel.mmu_update([[entry, value]] * 64) for _ in range(999)]",
            "more than the guest has room for",
        ),
        ("kernel.mmu_update([[entry, 0xFFFFF007]])", "the kernel touches 0x"),
    ],
)
def test_a_kernel_that_cannot_be_made_is_told(line: str, why: str) -> None:
    cell = (
        f"class Batching:\n    def change(self, kernel, linear, entry, value):\n        {line}\n\n"
        "    def use(self, kernel, linear):\n        pass\n\n    def finish(self, kernel):\n        pass\n"
    )
    assert why in broken(marked(BATCHING, cell))["right"]
