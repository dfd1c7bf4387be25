"""Random programs for ``translation_random_lab``: what kernels do, what they hardly ever do, and faults.

A program always ends: control goes forward but for loops in one unit, and calls of the last two slots, which
return. What is not asked for, since the bare machine is not the processor of the manuals there: SMSW r32
outside 64-bit code, SGDT and SIDT with 66h, LAR and LSL in long mode, near transfers beyond a limit, and 66h
before them in 32-bit and 64-bit code, and LOOPE and LOOPNE, which spoil the flags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Final

from tests.vmm import translation_driver as driver
from tests.vmm import translation_random_lab as lab
from tests.vmm.translation_coder import ALU, AX, BITS, BP, CX, DI, DX, MEDIA, MEDIA16, SI, Place, little
from tests.vmm.translation_driver import SLOT
from tests.vmm.translation_random_lab import Fix, Program, Unit, World
from tests.vmm.translation_system import SystemCoder

MAIN, FUNCTIONS = 12, 2
"""Slots of a program that control goes through, and that are called."""
END: Final = MAIN + FUNCTIONS
"""Where a program is over, as it is in slot MAIN - 1."""
_FULL: Final = SLOT - 20
"""Bytes of a slot that units take; what ends it takes the rest."""
_DATA_FLAGS: Final = 0x8D5 | 2


class Maker(SystemCoder):
    """Makes one program's slots."""

    def __init__(self, random: Random, place: Place) -> None:
        super().__init__(random, place)
        self.slot = self.used = 0
        media = MEDIA16 if place.world.bits == 16 else MEDIA
        self._units: Final[tuple[tuple[int, Callable[[], Unit]], ...]] = (
            (60, lambda: self.plain(ALU)), (8, lambda: self.plain(media, media=True)), (6, self.string),
            (6, self.stack), (5, self.flags), (4, self.interrupt_flag), (8, self.branch), (4, self.loop),
            (3, self.short), (5, self.call), (4, self.indirect_jump), (4, self.back), (4, self.selector),
            (4, self.store), (5, self.control), (2, self.identity), (3, self.port), (3, self.interrupt),
            (5, self.fault), (5, self.own_code), (3, self.bit), (2, self.far_transfer),
        )  # fmt: skip
        self._weights = [weight for weight, _ in self._units]

    def slots(self) -> Iterable[tuple[Unit, ...]]:
        """Write them all."""
        for number in range(END):
            self.slot, self.above = number, 0 if number < MAIN else 0x10
            units = self._slot() if number != MAIN - 1 else [Unit(bytes((0xCD, driver.FINISH)))]
            if number >= MAIN:
                released = self.random.choice((b"\xc3", b"\xc3", b"\xc2" + little(self.word, 2)))
                units.append(Unit(self.saved(0x8B) + released))
            yield tuple(units)

    def _slot(self) -> list[Unit]:
        self.choose()
        units = [Unit(b"\xb8" + self.random.randbytes(2 if self.bits == 16 else 4)), Unit(self.reload)]
        used = sum(len(unit.code) for unit in units)
        for _ in range(self.random.choice((1, 4, 8, 16, 30))):
            self.used = used
            _, make = self.random.choices(self._units, self._weights)[0]
            unit = make()
            if used + len(unit.code) > _FULL:
                break
            used += len(unit.code)
            units.append(unit)
        return units

    # --- pieces -------------------------------------------------------------------------------------------

    def saved(self, opcode: int) -> bytes:
        """MOV to or from memory: RSP as it is when the last two slots are called. They return with that."""
        place = little(self.place.offset(self.place.data + 0x20), 2 if self.bits == 16 else 4)
        return self.wide(
            bytes((opcode, 0x26 if self.bits == 16 else 0x24)) + (b"" if self.bits == 16 else b"\x25") + place
        )

    def later(self) -> int:
        """Give a slot that control may go to from here."""
        return min(self.slot + self.random.choice((1, 1, 1, 2, 3)), MAIN - 1 if self.slot < MAIN else END)

    def bit(self) -> Unit:
        """BT and its like; what they leave undefined of the flags depends on more than the instruction."""
        unit = self.plain(BITS)
        return Unit(
            unit.code + bytes((0x83, 0xD8 | self.random.choice((AX, CX, DX)))) + self.random.randbytes(1)
        )

    # --- strings and stack --------------------------------------------------------------------------------

    def string(self) -> Unit:
        r = self.random
        count, size = (
            r.choice((0, 1, 3, 7, r.randrange(40))),
            r.choice(("a4", "a5", "aa", "ab", "a6", "ae", "ac", "af")),
        )
        spots = [
            self.place.offset(self.place.data + self.place.alias(r) + 0x180 + r.randrange(0x180))
            for _ in (0, 1)
        ]
        segment = b""
        if r.random() < 0.25 and self.bits != 64:
            segment, spots[0] = b"\x64", r.choice((0xFF0, 0x1FF8, 0x9FF0))
        elif r.random() < 0.25 and self.bits == 32 and not self.place.world.based:
            spots[1] = driver.FIX + r.choice((0xFFC, 0x2FF0, 0x8FF8, 0x9FF8))
        elif r.random() < 0.2 and self.bits == 64:
            spots[r.randrange(2)] = driver.FIX + r.choice((0xFFC, 0x2FF0, 0x8FF8, 0x9FF8))
        code = self.load(SI, spots[0]) + self.load(DI, spots[1]) + self.load(CX, count)
        direction = r.choice((b"", b"", b"\xfc", b"\xfd"))
        repeat = r.choice((b"\xf3", b"\xf3", b"\xf2", b""))
        width = b"" if self.bits == 16 and r.random() < 0.8 else r.choice((b"", b"\x66"))
        if self.bits == 64 and r.random() < 0.4:
            width += b"\x48"
        body = segment + repeat + width + bytes.fromhex(size)
        if self.bits == 16 and r.random() < 0.3:
            body = b"\x67" + body
        return Unit(code + direction + body + r.choice((b"", b"\xfc")) + self.reload)

    def stack(self) -> Unit:
        r = self.random
        register = r.choice([n for n in self.free if n < 8])
        value = r.getrandbits(15)
        push, pop = bytes((0x50 | register,)), bytes((0x58 | register,))
        options = [
            push + pop,
            push + self.filler() + pop,
            self.push(value) + pop,
            b"\x6a" + r.randbytes(1) + pop,
            b"\x66" + push + b"\x66" + pop,
        ]
        if self.bits == 64:
            options += [b"\xff\xf0" + pop, b"\x54" + pop]
        else:
            options += [
                b"\x60" + self.filler() + b"\x61" + self.reload,
                b"\x54" + pop,
                b"\x66\x60\x66\x61" + self.reload,
            ]
        sizes = little(r.choice((0, 8, 0x18)), 2)
        frame = self.wide(b"\x89\xe5") + b"\xc8" + sizes + bytes((r.choice((0, 0, 1, 2)),))
        free, self.free = self.free, [n for n in self.free if n != BP]
        body = self.filler() if self.bits != 16 else b""
        self.free = free
        options.append(frame + body + b"\xc9" + self.reload)
        options.append(b"\xff\x34\x24" + pop if self.bits != 16 else push + pop)
        return Unit(r.choice(options))

    # --- flags --------------------------------------------------------------------------------------------

    def flags(self) -> Unit:
        r = self.random
        value = r.getrandbits(12) & _DATA_FLAGS | 2
        value |= r.choice((0, 0x200)) | r.choice((0, 0, 0, 0x400))
        if r.random() < 0.12:
            value |= r.choice((0x1000, 0x3000))
        if r.random() < 0.1:
            value |= 0x4000
        if r.random() < 0.04:
            value |= 0x100
        if self.bits != 16 and r.random() < 0.2:
            value |= r.choice((0x40000, 0x200000, 0x240000, 0x10000))
        register = r.choice([n for n in self.free if n < 8])
        pop = bytes((0x58 | register,))
        options = [
            self.push(value) + b"\x9d", self.push(value) + b"\x9d", b"\x9c" + pop, b"\x9c" + pop, b"\x9c\x9d",
            b"\x66\x9c" + b"\x66" + pop, b"\x66\x9c\x66\x9d", b"\x9e" if AX in self.free else b"\xf8",
            b"\x9f", b"\xf5", b"\xf9", b"\xfc", b"\xfd",
        ]  # fmt: skip
        return Unit(r.choice(options))

    def interrupt_flag(self) -> Unit:
        r = self.random
        return Unit(
            r.choice(
                (
                    b"\xfa",
                    b"\xfb",
                    b"\xfb\x90",
                    b"\xfb" + self.filler(),
                    b"\xfb\xfa",
                    b"\xfa\xfb\xfb",
                    b"\x9c\xfa" + self.filler() + b"\x9d",
                    b"\xfb\x9c\x9d",
                )
            )
        )

    # --- near transfers -----------------------------------------------------------------------------------

    def branch(self) -> Unit:
        r, target = self.random, self.place.slot(self.later())
        if self.bits == 16:
            if r.random() < 0.2:
                return Unit(
                    b"\x66\x0f" + bytes((0x80 | r.randrange(16), 0, 0, 0, 0)), (Fix(3, 4, target, 7),)
                )
            return Unit(b"\x0f" + bytes((0x80 | r.randrange(16), 0, 0)), (Fix(2, 2, target, 4),))
        if r.random() < 0.1:
            return Unit(b"\xe9" + bytes(4), (Fix(1, 4, target, 5),))
        return Unit(b"\x0f" + bytes((0x80 | r.randrange(16),)) + bytes(4), (Fix(2, 4, target, 6),))

    def short(self) -> Unit:
        """A short jump over something."""
        r, body = self.random, self.filler()
        head = r.choice(
            (
                b"\xeb",
                bytes((0x70 | r.randrange(16),)),
                bytes((0x70 | r.randrange(16),)),
                b"\xe3",
                b"\x67\xe3",
            )
        )
        return Unit(head + bytes((len(body),)) + body)

    def loop(self) -> Unit:
        """A few turns with RCX; nothing in them writes to it."""
        r, free = self.random, self.free
        self.free = [n for n in free if n != CX]
        body = self.filler()
        self.free = free
        head = b"\x67" if r.random() < 0.2 and self.bits != 16 else b""
        back = -(len(body) + len(head) + 2)
        return Unit(self.load(CX, r.choice((1, 2, 5, 20))) + body + head + bytes((0xE2, back & 0xFF)))

    def near(self, register: int, target: int) -> tuple[bytes, int]:
        """Load a register with an offset in CS; give the code and what ModRM says of the register."""
        return self.load(register, target), 0xC0 | register & 7

    def indirect(self, middle: int, target_slots: tuple[int, int]) -> Unit:
        """JMP or CALL through a register or memory, to one of some slots, by what is in RAX."""
        r, place = self.random, self.place
        first, last = target_slots
        table = place.offset(place.room + place.alias(r))
        if r.random() < 0.35:
            register = r.choice([n for n in self.free if n < 8])
            load, modrm = self.near(register, place.slot(r.randint(first, last)))
            return Unit(load + bytes((0xFF, modrm | middle << 3)))
        if self.bits == 16:
            return Unit(b"\xff" + bytes((middle << 3 | 6,)) + little(table + 2 * r.randint(first, last), 2))
        if r.random() < 0.3 and self.bits == 64:
            linear = place.room + place.near + 8 * r.randint(first, last)
            return Unit(b"\xff" + bytes((middle << 3 | 5,)) + bytes(4), (Fix(2, 4, linear, 6),))
        choice = r.choice((1, 1, 3)) if last - first >= 3 else 1 if last > first else 0
        register = r.choice((AX, DX))
        mask = b"\x83" + bytes((0xE0 | register, choice))
        scale = 0xC0 if self.bits == 64 else 0x80
        operand = bytes((middle << 3 | 4, scale | register << 3 | 5)) + little(table + self.word * first, 4)
        return Unit(mask + b"\xff" + operand)

    def indirect_jump(self) -> Unit:
        if self.slot >= MAIN - 1:
            return self.branch()
        return self.indirect(4, (self.slot + 1, MAIN - 1))

    def call(self) -> Unit:
        """Call one of the last slots, which are called by nobody else."""
        r = self.random
        if self.slot >= MAIN:
            return self.plain(ALU)
        target = self.place.slot(MAIN + r.randrange(FUNCTIONS))
        fixes: tuple[Fix, ...] = ()
        size, ahead = 2 if self.bits == 16 else 4, self.push(0) + self.saved(0x89) + b"\x58"
        if r.random() < 0.5:
            code, fixes = b"\xe8" + bytes(size), (Fix(1, size, target, 1 + size),)
        elif r.random() < 0.2 and self.bits != 16:
            code = b"\xff\x14\x24" + self.wide(b"\x8d\x64\x24") + bytes((self.word,))
            return Unit(self.push(target) + ahead + code + self.reload)
        else:
            code, fixes = self.indirect(2, (MAIN, MAIN + FUNCTIONS - 1))
        moved = tuple(fix._replace(offset=fix.offset + len(ahead), end=fix.end + len(ahead)) for fix in fixes)
        return Unit(ahead + code + self.reload, moved)

    def back(self) -> Unit:
        """Push an address and return to it."""
        r, target = self.random, self.place.slot(self.later())
        if r.random() < 0.3:
            return Unit(self.push(0x55) * 2 + self.push(target) + b"\xc2" + little(2 * self.word, 2))
        if r.random() < 0.2 and self.bits == 16:
            return Unit(b"\x66\x68" + little(target, 4) + b"\x66\xc3")
        return Unit(self.push(target) + b"\xc3")

    def far_transfer(self) -> Unit:
        """Far transfers to the same segment, and IRET."""
        r, own, size = self.random, self.place.selector + lab.CODE_AT, 2 if self.bits == 16 else 4
        target = self.place.slot(self.later())
        clear = self.push(r.choice((2, 0x202))) + b"\x9d"
        if self.bits == 64:
            if r.random() < 0.5:
                return Unit(self.push(own) + self.push(target) + b"\x48\xcb")
            saved = b"\x48\x89\xe0" + self.push(self.place.selector + lab.STACK_AT) + b"\x50"
            return Unit(clear + saved + b"\x9c" + self.push(own) + self.push(target) + b"\x48\xcf")
        form = r.randrange(4)
        if form == 0:
            return Unit(b"\xea" + little(target, size) + little(own, 2))
        if form == 1:
            code = b"\x9a" + bytes(size) + little(own, 2)
            return Unit(code, (Fix(1, size, target, 0, times=0),))
        if form == 2:
            return Unit(self.push(own) + self.push(target) + b"\xcb")
        return Unit(clear + b"\x9c" + self.push(own) + self.push(target) + b"\xcf")

    # --- interrupts and code that changes ---------------------------------------------------------------

    def interrupt(self) -> Unit:
        options = [bytes((0xCD, self.random.randrange(0x32, 0x40)))] * 3 + [b"\xcc"]
        return Unit(self.random.choice(options if self.bits == 64 else [*options, b"\xce"]))

    def own_code(self) -> Unit:
        """Stores into the program's code: the next instruction of this slot, or one of another slot."""
        r, place = self.random, self.place
        alias = place.world.alias if r.random() < 0.5 else 0
        if r.random() < 0.5:  # the constant of the first instruction of a slot, which is done or to come
            number = r.choice((min(self.later(), MAIN - 2), r.randrange(MAIN - 1), r.randrange(MAIN, END)))
            spot = place.offset(place.bases[0] + place.slot(number) + 1 - place.world.alias + alias)
            absolute = bytes((6,)) if self.bits == 16 else bytes((4, 0x25))
            immediate = r.randbytes(1)
            return Unit(b"\xc6" + absolute + little(spot, 2 if self.bits == 16 else 4) + immediate)
        spot = place.offset(place.bases[0] - place.world.alias + alias)
        size = 2 if self.bits == 16 else 4
        head = (b"\xc6\x06" if self.bits == 16 else b"\xc6\x04\x25") + bytes(size)
        change, old = r.choice(
            ((r.getrandbits(8), b"\xb0\x11"), (0x98, b"\x90"), (0x99, b"\x90"), (0xF8, b"\xf9"))
        )
        fix = Fix(len(head) - size, size, spot, len(head) + len(old), times=1)
        return Unit(head + bytes((change,)) + old, (fix,))


def program(seed: int, number: int, world: World) -> Program:
    """Make program ``number`` of a guest in a world."""
    random = Random(seed)
    place = Place(random, world, number)
    slots = tuple(Maker(random, place).slots())
    word = {16: 2, 32: 4, 64: 8}[world.bits]
    table = b"".join(little(place.slot(min(n, END)), word) for n in range(16))
    data = {place.data + 0x40: random.randbytes(0x3C0), place.room: table}
    starts = tuple(
        (*(random.getrandbits(64) for _ in range(16 if world.bits == 64 else 8)),
         random.getrandbits(12) & _DATA_FLAGS | 2 | random.choice((0, 0x200)))
        for _ in range(lab.PASSES)
    )  # fmt: skip
    return Program(
        seed, number, world, slots, place.first, place.bases, place.wide_stack, place.stack, data, starts
    )
