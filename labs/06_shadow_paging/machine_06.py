"""What the student's functions get in shadow paging, and the shadow tables that do as they say.

One exercise answers the misses in the shadow, the other protects the guest's tables.
"""

from __future__ import annotations

from judged_06 import Found, Judged, told

from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade, Value
from vlab.grading.student import Student
from vlab.guests.probes import A, D
from vlab.isa.paging import Access, Fault, PagingControls, PagingMode, Translation
from vlab.vmm.paging.shadow.filled import Fill, FilledSpace, Unbacked
from vlab.vmm.paging.strategy import PagingHost


def _truth(name: str, value: Value) -> bool:
    if not isinstance(value, bool | int) or value not in (0, 1):
        raise ValueError(f"{name}: {value!r} is neither True nor False")
    return bool(value)


class Miss(Facade):
    """A miss in the shadow, and what the guest's own tables say of the address."""

    read_only = (
        "linear", "write", "user", "fetch", "error_code", "may_write", "may_execute", "for_users", "dirty",
    )  # fmt: skip
    offers = ("reflect", "set_accessed", "set_dirty", "map")

    def __init__(self, paging: StudentFill, linear: int, access: Access, found: Found) -> None:
        self._paging, self._found = paging, found
        self.linear, self.write, self.user, self.fetch = linear, access.write, access.user, access.fetch
        result = found.result
        self.error_code = result.error_code if isinstance(result, Fault) else None
        grants = None if isinstance(result, Fault) else paging.granted(result, access)
        self.may_write = grants is not None and grants.writable
        self.may_execute = grants is not None and grants.executable
        self.for_users = grants is not None and grants.user
        self.dirty = isinstance(result, Translation) and result.dirty
        self.answer: Fill | Fault | None = None

    def reflect(self, error_code: Value) -> None:
        """Give the guest a page fault with this error code."""
        if not isinstance(error_code, int) or isinstance(error_code, bool) or not 0 <= error_code < 32:
            raise ValueError(f"error_code: {error_code!r} is not the error code of a page fault")
        self.answer = Fault(self.linear, int(error_code), self._found.steps[-1], "by your function")

    def set_accessed(self) -> None:
        """Set A in the guest's last entry."""
        self._mark("set_accessed", A)

    def set_dirty(self) -> None:
        """Set D in the guest's last entry."""
        self._mark("set_dirty", D)

    def _mark(self, name: str, bit: int) -> None:
        if isinstance(self._found.result, Fault):
            raise ValueError(f"{name}: the guest's tables do not map the page, so there is no entry to mark")
        self._paging.mark(self._found.steps[-1], bit)

    def map(self, writable: Value, user: Value, executable: Value) -> None:
        """Have the shadow map the page, where the guest's tables have it, with these rights."""
        result = self._found.result
        if isinstance(result, Fault):
            raise ValueError(
                "map: the guest's tables do not allow the access, so there is no page to map; after "
                "miss.reflect(...) the miss is answered"
            )
        self.answer = Fill(
            result.physical & ~0xFFF, _truth("writable", writable), _truth("user", user),
            _truth("executable", executable),
        )  # fmt: skip


class StudentFill(Judged):
    """Shadow paging whose misses the student's function answers."""

    def fill(self, linear: int, access: Access) -> Fill | Fault | Unbacked:
        """Ask the student."""
        if self.registers.controls().mode is PagingMode.NONE:
            return super().fill(linear, access)
        found = self.look(linear, access)
        if not found.steps:
            return super().fill(linear, access)
        miss = Miss(self, linear, access, found)
        self.student.call("page_fault", miss)
        if miss.answer is None:
            raise self.broken(
                f"{told(linear, access)} missed the shadow, and your function neither mapped the page nor "
                "reflected a fault",
                "each miss ends in one of the two: miss.map(...) or miss.reflect(...)",
            )
        return miss.answer


class Shadow(Facade):
    """The shadow tables, and which frames of the guest are protected."""

    offers = ("protect", "unprotect", "protected", "drop_made_from")

    def __init__(self, paging: StudentProtect) -> None:
        self._paging = paging

    def protect(self, frame: Value) -> None:
        """Have no shadow entry let the guest write to a frame; its next write there is an exit."""
        self._paging.protect(_frame(frame))

    def unprotect(self, frame: Value) -> None:
        """Let the guest write there again."""
        self._paging.protected.discard(_frame(frame))

    def protected(self, frame: Value) -> bool:
        """Whether a frame is protected."""
        return _frame(frame) in self._paging.protected

    def drop_made_from(self, table: Value) -> None:
        """Take all shadow entries away that were made through a page table of the guest's."""
        self._paging.drop_made_from(_frame(table))


def _frame(frame: Value) -> int:
    if not isinstance(frame, int) or isinstance(frame, bool) or frame & 0xFFF or not 0 <= frame < 1 << 40:
        shown = hex(frame) if isinstance(frame, int) else repr(frame)
        raise ValueError(f"frame: {shown} is not the guest-physical address of a frame, a multiple of 1000h")
    return int(frame)


class StudentProtect(Judged):
    """Shadow paging that keeps a tree for each CR3, and follows the guest's tables as the student says."""

    def __init__(self, student: Student) -> None:
        super().__init__(student)
        self.protected: set[int] = set()
        self._made: dict[int, set[tuple[int, int]]] = {}
        self._writers: dict[int, set[tuple[int, int]]] = {}

    def make_space(self, host: PagingHost) -> FilledSpace:
        """Keep trees by CR3."""
        space = super().make_space(host)
        space.by_root = True
        return space

    def protect(self, frame: int) -> None:
        """Protect a frame: what let the guest write to it goes."""
        self.protected.add(frame)
        for top, linear in self._writers.pop(frame, ()):
            self.space.drop(linear, top)

    def drop_made_from(self, table: int) -> None:
        """Drop the entries of all trees that a walk through a table has led to."""
        for top, linear in self._made.pop(table, ()):
            self.space.drop(linear, top)

    def fill(self, linear: int, access: Access) -> Fill | Fault | Unbacked:
        """Ask the student whether the entry may be writable."""
        if self.registers.controls().mode is PagingMode.NONE:
            return super().fill(linear, access)
        found = self.look(linear, access)
        if isinstance(found.result, Fault):
            return found.result
        grants, frame = self.granted(found.result, access), found.result.physical & ~0xFFF
        if access.write and frame in self.protected:
            self.student.call("table_write", Shadow(self), frame)
            if frame in self.protected:
                raise self.broken(
                    f"the guest writes to the table at {frame:#x}, and your function left it protected",
                    "the write is made when the guest goes on, so it has to be allowed by then",
                )
        tables = [step.table & ~0xFFF for step in found.steps]
        place = self.space.top, linear & ~0xFFF
        for table in tables:
            self._made.setdefault(table, set()).add(place)
        page: dict[str, Value] = {
            "linear": linear, "frame": frame, "tables": list(tables), "write": access.write,
            "may_write": grants.writable,
        }  # fmt: skip
        writable = _answer(self.student.call("fill", Shadow(self), page))
        self.mark(found.steps[-1], A | D if writable and grants.writable else A)
        if writable and grants.writable:
            self._writers.setdefault(frame, set()).add(place)
        return Fill(grants.gpa, writable and grants.writable, grants.user, grants.executable)

    def switch(self, before: PagingControls, after: PagingControls) -> None:
        """Another mode or other rules: nothing is kept."""
        super().switch(before, after)
        self._made.clear()
        self._writers.clear()


def _answer(answer: Value) -> bool:
    if not isinstance(answer, bool):
        raise Broken(f"fill returned {answer!r}; it has to return True or False: may the entry be writable?")
    return answer
