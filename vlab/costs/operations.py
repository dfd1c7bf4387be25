"""The operations that are measured: Adams and Agesen's nanobenchmarks, as programs of the kernel wren.

Each program is named on wren's command line with how often to do it, and prints a line before it begins. What
one operation takes is the difference of two runs with different counts, over the difference of the counts:
what goes before, and after, is in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. about: what it is, in a few words. line: wren's command line, for a count.

    begins: what appears on the console before the first one. carried_out: whether a monitor that serves it
    does all of it, and nothing is left for the processor.
    """

    name: str
    about: str
    line: str
    begins: str
    carried_out: bool = False


def _bench(name: str, about: str, *, carried_out: bool = False) -> Operation:
    return Operation(name, about, f"bench={name}=%d", f"bench {name}: begin\r\n", carried_out)


OPERATIONS: Final = (
    _bench("syscall", "the shortest system call"),
    _bench("in", "a read of a port", carried_out=True),
    _bench("cr", "a write of CR3", carried_out=True),
    _bench("callret", "a call and its return, in the kernel"),
    _bench("pgfault", "a first touch of a page of the heap"),
    _bench("divzero", "a division by zero, in the kernel"),
    _bench("ptemod", "a change of a page-table entry, with INVLPG"),
    Operation("forkwait", "fork, exit and wait", "forkwait=%d", "wren: hello\r\n"),
)
NAMES: Final = tuple(operation.name for operation in OPERATIONS)
