"""Binary translation: the student's sorting of instructions, and the student's book of translations.

Both are parts of vlab's own translator, which makes of real guests what the student decides. What the
processor could not survive, a jump that is copied or a translation of something else, is told before it is
done; all else shows in what the guest then does. Sections are those of the AMD64 Architecture Programmer's
Manual, vol. 3, rev. 3.36.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from random import Random
from typing import ClassVar, Final

from vlab.grading.equivalence import differences
from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.facade import Part, Value
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.guests.programs import KERNEL_CODE, KERNEL_DATA, SCRATCH, Code, image, leave, rings
from vlab.machine.memory import PAGE
from vlab.session import VM
from vlab.vmm.translation import select
from vlab.vmm.translation.blocks import Block, Link
from vlab.vmm.translation.context import Context
from vlab.vmm.translation.draft import Draft
from vlab.vmm.translation.indirect import Lookup
from vlab.vmm.translation.library import Translations
from vlab.vmm.translation.monitor import BinaryTranslation
from vlab.vmm.translation.select import Found, How
from vlab.vmm.translation.translator import MOST, Translator

COPY, OUT, REWRITE = "copy", "out", "rewrite"
_TRANSFERS: Final = frozenset((How.JUMP, How.CALL, How.RETURN, How.BRANCH, How.LOOP))
_AWAY: Final = frozenset(
    ("iret", "iretd", "ljmp", "lcall", "retf", "syscall", "sysret", "sysenter", "sysexit")
)
"""What leaves for elsewhere, too, and is carried out by the monitor."""
_ENDS: Final = _TRANSFERS - {How.BRANCH}
_MEMORY: Final = "2M"

# --- the student's sorting ----------------------------------------------------------------------------------


class Sorting(Translator):
    """vlab's translator, which asks the student what to do with each instruction of 32-bit kernels."""

    student: ClassVar[Student]

    def instructions(self, draft: Draft) -> Iterator[Found]:
        """Give the instructions as the student has decided."""
        known: dict[tuple[int, bytes], str] = {}
        for found in super().instructions(draft):
            if draft.bits != 32:
                yield found
                continue
            key = found.rip, found.code
            if key not in known:
                known = self._ask(draft, found)
            yield self._decided(draft, found, known[key])

    def _ask(self, draft: Draft, first: Found) -> dict[tuple[int, bytes], str]:
        """Have the student sort the instructions from ``first`` on, up to one that control does not pass."""
        place = draft.block.linear % PAGE + first.rip - draft.block.rip
        block = [first]
        if first.how not in _ENDS:
            start = place + len(first.code)
            behind = first.rip + len(first.code)
            for found in select.decode(draft.pages[0].seen[start:], behind, draft.bits, MOST - 1):
                block.append(found)
                if found.how in _ENDS:
                    break
        told: list[Value] = [
            {"name": each.name, "operands": each.operands, "length": len(each.code)} for each in block
        ]
        given = self.student.call("sort", told)
        if not isinstance(given, list) or len(given) != len(block):
            size = f"{len(given)} answers" if isinstance(given, list) else repr(given)
            raise Broken(
                f"sort was given {len(block)} instructions and returned {size}; one for each, please"
            )
        known = {}
        for found, answer in zip(block, given, strict=True):
            if answer not in (COPY, OUT, REWRITE):
                raise Broken(f"sort says {answer!r} for `{_text(found)}`; say 'copy', 'out' or 'rewrite'")
            known[found.rip, found.code] = str(answer)
        return known

    def _decided(self, draft: Draft, found: Found, answer: str) -> Found:
        """Give the instruction as it is to be translated. Raises Broken for what cannot be."""
        how = found.how
        if answer == REWRITE:
            if how in (How.COPY, How.OUT):
                raise Broken(
                    f"`{_text(found)}` is to be rewritten, and no other code does the same in its place",
                    hint="rewritten are near transfers, CLI, STI, PUSHF, POPF, moves of CS or SS",
                )
            return found
        if answer == COPY:
            if how in _TRANSFERS or found.name in _AWAY:
                raise Broken(
                    f"`{_text(found)}` at {found.rip:#x} is to be copied: from the cache it leads "
                    "somewhere else, or to code that is not translated",
                    hint="every transfer of control has to lead to a translation: none is copied",
                )
            return found._replace(how=How.COPY)
        if self.stub(draft, found) is None:
            raise Broken(
                f"`{_text(found)}` is to be called out, and the monitor has no emulation of it",
                hint="the monitor emulates what is sensitive, and transfers; the rest is copied",
            )
        return found._replace(how=How.OUT)


def _text(found: Found) -> str:
    return f"{found.name} {found.operands}".rstrip()


def _with(
    trial: Trial, translator: type[Translator], translations: type[Translations]
) -> type[BinaryTranslation]:
    """Make the monitor with these parts of the student's in it."""
    chosen = type("YourTranslator", (translator,), {"student": trial.student})
    library = type("YourTranslations", (translations,), {"student": trial.student, "translator_type": chosen})
    return type("Yours", (BinaryTranslation,), {"translations_type": library})


def _run_both(trial: Trial, guest: bytes, monitor: type[BinaryTranslation], hint: str) -> tuple[VM, VM]:
    """Run a guest under the student's translator and under vlab's, and compare how they end."""
    yours = trial.vm(image(guest), monitor=monitor, memory=_MEMORY)
    ours = trial.vm(image(guest), monitor="binary-translation", memory=_MEMORY)
    expected, stop = trial.run(ours), trial.run(yours, exits=20_000, hint=hint)
    if (stop.kind, stop.exit_code) != (expected.kind, expected.exit_code):
        raise Broken(
            f"the guest stopped with '{stop.story.splitlines()[0]}', and as vlab translates it with "
            f"'{expected.story.splitlines()[0]}'",
            hint=hint,
            vm=yours,
        )
    found = differences(yours.registers(), ours.registers())
    mine, right = (bytes(vm.memory[SCRATCH : SCRATCH + 256]) for vm in (yours, ours))
    for word in range(0, 256, 4):
        if mine[word : word + 4] != right[word : word + 4]:
            seen, wanted = (struct.unpack_from("<I", each, word)[0] for each in (mine, right))
            found.append(f"result {word // 4 + 1} is {seen:#x} instead of {wanted:#x}")
    if found:
        raise Broken(f"in the end {', '.join(found[:2])}", hint=hint, vm=yours)
    return yours, ours


def _sorted(trial: Trial, guest: bytes, hint: str) -> tuple[VM, VM]:
    return _run_both(trial, guest, _with(trial, Sorting, Translations), hint)


# --- guests -------------------------------------------------------------------------------------------------


def _load(register: int, value: int) -> bytes:
    return bytes((0xB8 + register,)) + struct.pack("<I", value)


class _Results:
    """Places for results, one after the other."""

    def __init__(self) -> None:
        self._next = SCRATCH

    def keep(self) -> bytes:
        """Make ``mov [next], eax``."""
        self._next += 4
        return b"\xa3" + struct.pack("<I", self._next - 4)


def _filler(rng: Random) -> bytes:
    choices = (
        b"\x90",  # nop
        b"\x83\xc3" + bytes((rng.randrange(1, 100),)),  # add ebx, imm
        b"\x89\xde",  # mov esi, ebx
        b"\x0f\xaf\xde",  # imul ebx, esi
        b"\x89\x1d" + struct.pack("<I", SCRATCH + 0x300),  # mov [SCRATCH + 300h], ebx
        b"\x53\x5f",  # push ebx; pop edi
    )
    return b"".join(rng.choice(choices) for _ in range(rng.randrange(1, 5)))


def _flags_guest(rng: Random) -> bytes:
    def kernel(code: Code) -> None:
        results = _Results()
        for _ in range(8):
            flags = 2 | rng.choice((0, 0x200)) | rng.choice((0, 1)) | rng.choice((0, 0x400))
            change = rng.choice(
                (b"\xfa", b"\xfb", b"\x68" + struct.pack("<I", flags) + b"\x9d")
            )  # cli, sti, push flags and popf
            code.add(_filler(rng), change, _filler(rng), b"\x9c\x58", results.keep())  # pushf; pop eax
        code.add(b"\xfa\x68\x02\0\0\0\x9d\x68\x02\x02\0\0\x9d\x9c\x58", results.keep())  # popf that sets IF
        code.add(b"\xfa", leave(0))

    return rings(kernel, {})


def _system_guest(rng: Random) -> bytes:
    def kernel(code: Code) -> None:
        results = _Results()
        pieces = [
            b"\x0f\x20\xc0",  # mov eax, cr0
            _load(1, rng.getrandbits(20) << 12) + b"\x0f\x22\xd9\x0f\x20\xd8",  # mov cr3, ecx; mov eax, cr3
            _load(2, rng.getrandbits(32)) + b"\x0f\x22\xd2\x0f\x20\xd0",  # mov cr2, edx; mov eax, cr2
            b"\x31\xc0\x8c\xc8",  # xor eax, eax; mov eax, cs
            b"\x31\xc0\x8c\xd0",  # mov eax, ss
            b"\x0e\x58",  # push cs; pop eax
            b"\x31\xc0\xb9" + struct.pack("<I", KERNEL_CODE) + b"\x0f\x02\xc1",  # lar eax, ecx
            b"\x31\xc0\xb9" + struct.pack("<I", KERNEL_DATA) + b"\x0f\x03\xc1",  # lsl eax, ecx
            b"\x0f\x06\x0f\x20\xc0",  # clts; mov eax, cr0
            b"\x66\xb8" + struct.pack("<H", KERNEL_DATA) + b"\x8e\xe0\x8c\xe0",  # mov fs, ax; mov eax, fs
            b"\x31\xc0\x0f\x00\xc8",  # str eax
        ]
        rng.shuffle(pieces)
        for piece in pieces:
            code.add(_filler(rng), piece, results.keep())
        code.add(leave(0))

    return rings(kernel, {})


def _calls(rng: Random, turns: int) -> Callable[[Code], None]:
    """Some functions, called directly and through registers, in loops, with RET and RET n."""
    count = rng.randrange(2, 5)

    def kernel(code: Code) -> None:
        results = _Results()
        code.add(_load(3, rng.getrandbits(16)), _load(1, turns), "again", b"\x51")  # mov ecx, turns; push ecx
        for number in range(count):
            way = rng.choice(("call", "through"))
            if number % 2:
                code.add(b"\x53")  # push ebx: released by RET 4
            if way == "call":
                code.add(b"\xb8").word(f"function {number}").add(b"\xff\xd0")  # mov eax, f; call eax
            else:
                code.add(b"\xe8").relative(f"function {number}")
            code.add(_filler(rng))
        code.add(b"\x59\x49\x0f\x85").relative("again")  # pop ecx; dec ecx; jnz again
        code.add(b"\x89\xd8", results.keep())  # mov eax, ebx
        code.add(b"\xb8").word("over").add(b"\xff\xe0\x0f\x0b", "over")  # mov eax, over; jmp eax; ud2
        code.add(b"\xb9\x05\0\0\0", b"\x43\xe2\xfd", b"\x89\xd8", results.keep())  # inc ebx; loop
        code.add(leave(0))
        for number in range(count):
            code.add(f"function {number}", _filler(rng), b"\x83\xc3" + bytes((number + 1,)))
            code.add(b"\xf6\xc3\x01\x74\x01\x43")  # test bl, 1; jz over inc ebx
            code.add(b"\xc2\x04\0" if number % 2 else b"\xc3")

    return kernel


def _transfers_guest(rng: Random) -> bytes:
    return rings(_calls(rng, rng.randrange(3, 7)), {})


_FLAGS_HINT: Final = (
    "POPF and PUSHF do not fault at CPL 1: copied, they show the real flags and lose the guest's"
)
_SYSTEM_HINT: Final = (
    "what reads or writes the machine's own registers is the monitor's: CRn, segments, tables"
)


def _flags_kept(trial: Trial) -> None:
    _sorted(trial, _flags_guest(trial.rng), _FLAGS_HINT)


def _system_kept(trial: Trial) -> None:
    _sorted(trial, _system_guest(trial.rng), _SYSTEM_HINT)


def _transfers_kept(trial: Trial) -> None:
    _sorted(
        trial, _transfers_guest(trial.rng), "each transfer is rewritten, so that it leads to a translation"
    )


def _cheap(trial: Trial) -> None:
    """A loop with calls and flags: what can be rewritten does not go to the monitor."""
    rng = trial.rng

    def kernel(code: Code) -> None:
        code.add(b"\x31\xdb\x80\xcf\x02" + _load(1, rng.randrange(30, 60)))  # xor ebx, ebx; or bh, 2
        code.add("turn", b"\x51\x9c\xfa\x53\x9d\x9c\x5f\x9d\xe8").relative("function")
        # push ecx; pushf; cli; push ebx; popf; pushf; pop edi; popf; call function
        code.add(b"\x59\x49\x0f\x85").relative("turn")  # pop ecx; dec ecx; jnz turn
        code.add(leave(0), "function", b"\x90\xc3")

    yours, ours = _sorted(trial, rings(kernel, {}), _FLAGS_HINT)
    mine, right = yours.exits.total, ours.exits.total
    if mine > right + 5:
        raise Broken(
            f"the guest took {mine} exits as you sort its instructions; {right} are enough",
            hint="a call-out is an exit each time: what can be rewritten is quicker",
            vm=yours,
        )


def _wren(trial: Trial, monitor: type[BinaryTranslation]) -> None:
    greeting = "wren: hello"
    vm = trial.vm("wren", monitor=monitor, memory="8M")
    stop = trial.run(vm, greeting)
    if greeting not in vm.console.text:
        raise Broken(f"wren did not say hello: '{stop.story.splitlines()[0]}'", vm=vm)


def _kernel_sorted(trial: Trial) -> None:
    _wren(trial, _with(trial, Sorting, Translations))


def _hidden_sorting(trial: Trial) -> None:
    _sorted(trial, _flags_guest(trial.rng), _FLAGS_HINT)
    _sorted(trial, _system_guest(trial.rng), _SYSTEM_HINT)


# --- the student's book of translations ---------------------------------------------------------------------


class Booked(Translations):
    """vlab's translations, of which the student keeps the book."""

    student: ClassVar[Student]
    _book: Part | None = None

    @property
    def book(self) -> Part:
        """The student's book, made when it is asked for first."""
        if self._book is None:
            self._book = self.student.make("Book")
            self._numbers: dict[Block, int] = {}
            self._blocks: dict[int, Block] = {}
        return self._book

    def block(self, rip: int, linear: int, context: Context) -> Block:
        """Find a block in the student's book, or make it and have it entered there."""
        number = self.book.call("find", rip, context.code)
        if number is not None:
            return self._checked(number, rip, linear, context)
        block = self._make(rip, context)
        self._number(block)
        self.book.call("add", rip, context.code, self._number(block), block.transient)
        return block

    def _number(self, block: Block) -> int:
        if block not in self._numbers:
            self._numbers[block] = len(self._numbers) + 1
            self._blocks[self._numbers[block]] = block
        return self._numbers[block]

    def _checked(self, number: Value, rip: int, linear: int, context: Context) -> Block:
        found = self._blocks.get(number) if isinstance(number, int) and not isinstance(number, bool) else None
        where = f"for {rip:#x} in context {context.code} find gives {number!r}"
        if found is None:
            raise Broken(f"{where}; no translation has that number")
        if not found.alive:
            raise Broken(
                f"{where}, which was dropped: the guest has changed the code that it was made from",
                hint="after drop(number) that translation is never found again",
            )
        if (found.rip, found.context) != (rip, context) or found.linear != linear:
            raise Broken(
                f"{where}; that is the translation of {found.rip:#x} in context {found.context.code}",
                hint="the same code has another translation with interrupts on than with interrupts off",
            )
        if found.transient:
            raise Broken(
                f"{where}, which was for once: what it was made from may have changed unnoticed",
                hint="a translation that is added with once=True is not found again",
            )
        return found

    def link(self, link: Link, target: Block) -> None:
        """Ask the student whether to chain."""
        source = self._number(link.block)
        if not self._agrees("chain", source, self._number(target)):
            return
        for each in (link.block, target):
            if not each.alive or each.transient:
                what = "was dropped" if not each.alive else "was for once"
                raise Broken(
                    f"you chain translation {source} to {self._number(target)}; {self._number(each)} {what}",
                    hint="a jump is written from one translation to another: both have to be there to stay",
                )
        super().link(link, target)

    def learn(self, lookup: Lookup, target: int) -> Link | None:
        """Ask the student whether a return is to know one target more."""
        source = self._number(lookup.block)
        if not self._agrees("expect", source, target):
            return None
        if not lookup.block.alive:
            raise Broken(
                f"a comparison is to be added to translation {source}, which was dropped",
                hint="after drop(number) nothing is written into that translation",
            )
        return super().learn(lookup, target)

    def _agrees(self, method: str, *values: int) -> bool:
        answer = self.book.call(method, *values)
        if not isinstance(answer, bool):
            raise Broken(f"{method} returned {answer!r}; it has to say True or False")
        return answer

    def drop(self, blocks: object) -> None:
        """Tell the student which translations are gone."""
        gone = [each for each in list(blocks) if each.alive]  # type: ignore[call-overload]
        super().drop(gone)
        for each in gone:
            self.book.call("drop", self._number(each))

    def empty(self) -> None:
        """Tell the student that all are gone."""
        gone = [each for each in self.map.blocks.values() if each.alive]
        super().empty()
        for each in gone:
            self.book.call("drop", self._number(each))


def _booked(trial: Trial, guest: bytes, hint: str) -> tuple[VM, VM]:
    return _run_both(trial, guest, _with(trial, Translator, Booked), hint)


def _counts(vm: VM) -> tuple[int, int]:
    """Give blocks translated, and exits for want of a link or a target."""
    statistics = vm.translation
    assert statistics is not None
    return statistics.counts.blocks, statistics.counts.unlinked + statistics.counts.misses


def _thrifty(trial: Trial, guest: bytes) -> None:
    yours, ours = _booked(trial, guest, "find gives what add has entered")
    (mine, misses), (right, enough) = _counts(yours), _counts(ours)
    if mine > right:
        raise Broken(
            f"{mine} blocks were translated, and there are {right}",
            hint="what was added is found again: find gives its number", vm=yours,
        )  # fmt: skip
    if misses > enough:
        raise Broken(
            f"{misses} times a block ended at the monitor, and {enough} are enough",
            hint="chain and expect say True as long as nothing speaks against it", vm=yours,
        )  # fmt: skip


def _found_again(trial: Trial) -> None:
    rng = trial.rng
    yours, ours = _booked(trial, rings(_calls(rng, rng.randrange(4, 9)), {}), "find gives what was added")
    mine, right = _counts(yours)[0], _counts(ours)[0]
    if mine > right:
        raise Broken(
            f"{mine} blocks were translated, and there are {right}",
            hint="what was added is found again: find gives its number", vm=yours,
        )  # fmt: skip


def _contexts_guest(rng: Random) -> bytes:
    """The same functions with interrupts on and with interrupts off."""

    def kernel(code: Code) -> None:
        results = _Results()
        for turn in range(4):
            code.add(b"\xfb" if turn % 2 else b"\xfa", _filler(rng), b"\xe8").relative("function")
            code.add(results.keep())
        code.add(b"\xfa", leave(0), "function", _filler(rng), b"\x9c\x58\xc3")  # pushf; pop eax; ret

    return rings(kernel, {})


def _changing_guest(rng: Random) -> bytes:
    """A function that is written over between its calls, and one that changes itself."""

    def kernel(code: Code) -> None:
        results = _Results()
        for _ in range(5):
            code.add(b"\xe8").relative("function")
            code.add(results.keep())
            value = rng.getrandbits(32)
            code.add(b"\xc7\x05").word("function", 1).add(
                struct.pack("<I", value)
            )  # mov [function + 1], value
        for _ in range(3):
            code.add(b"\xe8").relative("itself")
            code.add(results.keep())
        code.add(leave(0)).align(PAGE)
        code.add("function", b"\xb8" + struct.pack("<I", rng.getrandbits(32)), _filler(rng), b"\xc3").align(
            PAGE
        )
        code.add("itself", b"\xb8" + struct.pack("<I", rng.getrandbits(16)))  # mov eax, number
        code.add(b"\xff\x05").word("itself", 1).add(b"\xeb\0", _filler(rng), b"\xc3")  # inc [itself + 1]; jmp

    return rings(kernel, {})


def _stack_guest(rng: Random) -> bytes:
    """A stack on the page of the code that uses it."""
    code = Code()
    results = _Results()
    code.add(b"\xbc").word("stack").add(_load(3, rng.getrandbits(16)), _load(1, rng.randrange(3, 6)), "turn")
    code.add(b"\x51\xe8").relative("function")
    code.add(b"\x59\x49\x0f\x85").relative("turn")
    code.add(b"\x89\xd8", results.keep(), leave(0), "function", _filler(rng), b"\x43\xc3", bytes(64), "stack")
    return code.finish()


def _contexts_kept(trial: Trial) -> None:
    _booked(trial, _contexts_guest(trial.rng), "the context is part of what a translation is found by")


def _changes_seen(trial: Trial) -> None:
    _booked(
        trial, _changing_guest(trial.rng), "what was dropped is gone: it is not found, and nothing is chained"
    )


def _once_kept(trial: Trial) -> None:
    _booked(
        trial, _stack_guest(trial.rng), "a translation for once is not found again, and nothing is chained"
    )


def _chained(trial: Trial) -> None:
    rng = trial.rng
    _thrifty(trial, rings(_calls(rng, rng.randrange(20, 30)), {}))


def _kernel_booked(trial: Trial) -> None:
    _wren(trial, _with(trial, Translator, Booked))


def _hidden_book(trial: Trial) -> None:
    _booked(trial, _changing_guest(trial.rng), "what was dropped is gone")
    _contexts_kept(trial)


# --- the exercises ------------------------------------------------------------------------------------------

EXERCISES: Final = (
    Exercise(
        "sort",
        "Copied, called out, or rewritten",
        defines=("sort",),
        invariants=(
            Invariant(
                "transfers", 2, "calls, returns, jumps and loops stay in translated code", _transfers_kept
            ),
            Invariant("flags", 2, "CLI, STI, PUSHF and POPF are about the guest's own IF", _flags_kept),
            Invariant("system", 3, "what reads or writes the machine's state is the monitor's", _system_kept),
            Invariant("cheap", 1, "what can be rewritten takes no exit", _cheap),
            Invariant("kernel", 2, "the kernel `wren` comes to its first program", _kernel_sorted),
            Invariant(
                "hidden", 1, "all of that on guests that you have not seen", _hidden_sorting, hidden=True
            ),
        ),
        hints=(
            (
                "Three questions for each: does it transfer control, does it show or change the machine's "
                "state, or neither?"
            ),
            "Near transfers, cli, sti, pushfd and popfd are rewritten; lgdt, hlt, iretd ... called out.",
            (
                "mov, push and pop depend on their operands: crN and drN are called out, and so is any load "
                "of a segment register; `mov eax, cs` is rewritten, `mov eax, ds` is copied."
            ),
        ),
    ),
    Exercise(
        "book",
        "The book of translations",
        defines=("Book",),
        invariants=(
            Invariant("again", 2, "what was translated is found again", _found_again),
            Invariant("contexts", 2, "the same code has a translation for each context", _contexts_kept),
            Invariant("changed", 3, "code that the guest has changed is never run as it was", _changes_seen),
            Invariant("once", 1, "a translation for once is used once", _once_kept),
            Invariant("chained", 2, "a block ends at the monitor no oftener than it must", _chained),
            Invariant("kernel", 1, "the kernel `wren` comes to its first program", _kernel_booked),
            Invariant("hidden", 1, "all of that on guests that you have not seen", _hidden_book, hidden=True),
        ),
        hints=(
            "A dict from (address, context) to number, and a set of the numbers that are to stay.",
            "drop(number): take the number out of both. add with once=True enters it in neither.",
            "chain: are both numbers in the set? expect: was the source not dropped? Else True.",
        ),
    ),
)
