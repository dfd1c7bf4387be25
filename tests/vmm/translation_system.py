"""Instructions of kernels for ``translation_blocks``: segment and control registers, ports, and faults."""

from __future__ import annotations

from tests.vmm import translation_driver as driver
from tests.vmm import translation_random_lab as lab
from tests.vmm.translation_coder import AX, BP, CX, DI, DX, SI, SP, Coder, Operand, little
from tests.vmm.translation_random_lab import Unit


class SystemCoder(Coder):
    """Writes those too."""

    def selector(self) -> Unit:
        """Loads of segment registers, which leave bases as they are; or fault; and reads of them."""
        r, own = self.random, self.place.selector
        register = r.choice([n for n in self.free if n < 8])
        segment, value = r.choice(
            (
                (0, own + 8),
                (3, own + 8),
                (5, own + 8),
                (4, own + 24),
                (2, own + 16),
                (0, lab.LOCAL),
                (3, lab.ABSENT),
                (5, lab.TASK),
                (1, own),
                (4, 0xFFF8),
                (2, 0),
                (2, own + 3),
            )
        )
        if self.bits == 64 and segment > 3:
            segment = 0
        move = self.load(register, value) + bytes((0x8E, 0xC0 | segment << 3 | register))
        pops = {0: b"\x07", 2: b"\x17", 3: b"\x1f", 4: b"\x0f\xa1", 5: b"\x0f\xa9"}
        read = bytes((0xC0 | r.randrange(6) << 3 | register,))
        options = [move, move + self.filler(), b"\x8c" + read, b"\x66\x8c" + read]
        if self.bits != 64:
            options += [r.choice((b"\x0e", b"\x16", b"\x1e", b"\x0f\xa0")) + bytes((0x58 | register,))] * 2
            if segment in pops:
                options += [self.push(value) + pops[segment]]
            pointer = self.push(own + 8) + self.push(self.small)
            options += [pointer + bytes((0xC4, 0x04 | register << 3, 0x24))] if self.bits == 32 else []
        else:
            options += [b"\x48\x8c" + read, b"\x0f\xa0" + bytes((0x58 | register,))]
        return Unit(r.choice(options))

    def store(self) -> Unit:
        """What SGDT and its like store, to memory of any form; MOV from segment registers there."""
        r = self.random
        opcode, middle = r.choice(
            (
                (b"\x0f\x01", 0),
                (b"\x0f\x01", 1),
                (b"\x0f\x01", 4),
                (b"\x0f\x00", 0),
                (b"\x0f\x00", 1),
                (b"\x8c", 1),
                (b"\x8c", 2),
                (b"\x8c", 3),
                (b"\x0f\x00", 4),
                (b"\x0f\x00", 5),
            )
        )
        if r.random() < 0.3 and opcode == b"\x0f\x00":
            register = self.register()
            return self.instruction(
                opcode, middle, Operand(b"", register >> 3, 0xC0 | register & 7), wide=register > 7
            )
        if r.random() < 0.2 and self.bits != 64:
            register, other = self.register(), self.register()
            value = r.choice((8, 0x10, self.place.selector, lab.ABSENT, lab.TASK, 0, 0xFFF0))
            look = bytes((0x0F, r.choice((2, 3)), 0xC0 | other << 3 | register))
            return Unit(self.load(register, value) + look)
        return self.instruction(opcode, middle, self.memory())

    def control(self) -> Unit:
        """Control, debug and model-specific registers."""
        r, paged = self.random, self.place.world.paged
        register = r.choice([n for n in self.free if n < 8])
        cr0 = (0x80010011 if paged else 0x11) | r.choice((0, 2, 8, 0x20, 0x40000, 0x22))
        cr4 = (0x620 if self.bits == 64 else 0x610) | r.choice((0, 4, 8, 0x80, 0x100))
        msr = r.choice((0x174, 0x175, 0x176, 0x277, 0xC0000081, 0xC0000082, 0xC0000084, 0xDEAD, 0xC0000080))
        values = {0x277: (0x00070406,) * 2, 0x174: (8, 0)}.get(msr, (r.getrandbits(31), 0))
        write = (
            b"" if msr == 0xC0000080 else self.load(AX, values[0]) + self.load(DX, values[1]) + b"\x0f\x30"
        )
        read = 0xC0 | r.choice((0, 0, 2, 3, 4)) << 3 | register
        options = [
            bytes((0x0F, 0x20, read)),
            bytes((0x0F, 0x20, read)),
            b"\x0f\x06",
            self.load(register, cr0) + bytes((0x0F, 0x22, 0xC0 | register)),
            self.load(register, cr4) + bytes((0x0F, 0x22, 0xE0 | register)),
            bytes((0x0F, 0x20, 0xD8 | register, 0x0F, 0x22, 0xD8 | register)),
            bytes((0x0F, 0x21, 0xC0 | r.choice((0, 1, 2, 3, 6, 7)) << 3 | register)),
            self.load(register, r.getrandbits(31))
            + bytes((0x0F, 0x23, 0xC0 | r.randrange(2) << 3 | register)),
            self.load(CX, msr) + write + self.load(CX, msr) + b"\x0f\x32",
            self.load(AX, r.choice((1, 3, 0x21, 9))) + b"\x0f\x01\xf0",
        ]
        return (
            Unit(r.choice(options)) if r.random() < 0.85 else self.instruction(b"\x0f\x01", 7, self.memory())
        )

    def identity(self) -> Unit:
        leaf = self.random.choice((0, 7, 0x80000000, 0x80000005, 0x80000008, 0x12345))
        return Unit(self.load(AX, leaf) + b"\x0f\xa2" + self.reload)

    def port(self) -> Unit:
        """A port where nothing is, and the one for codes at power-on."""
        r = self.random
        fixed = bytes((r.choice((0xE4, 0xE5, 0xE6, 0xE7)), 0x80))
        moved = self.load(DX, r.choice((0x80, 0x2F0))) + bytes((r.choice((0xEC, 0xED, 0xEE, 0xEF)),))
        spot = self.place.offset(self.place.data + 0x180 + r.randrange(0x180))
        rows = (
            self.load(DX, 0x2F0) + self.load(SI, spot) + self.load(DI, spot) + self.load(CX, r.choice((1, 5)))
        )
        rows += b"\xfc\xf3" + bytes((r.choice((0x6C, 0x6D, 0x6E, 0x6F)),)) + self.reload
        return Unit(r.choice((fixed, fixed, moved, moved, rows)))

    def fault(self) -> Unit:
        """An exception in the middle of a slot."""
        r = self.random
        register = r.choice([n for n in self.free if n < 8])
        prepared = self.load(DX, r.choice((0, 0, 0x7FFFFFFF))) + self.load(CX, r.choice((0, 3, 1)))
        divide = prepared + b"\xf7\xf1"
        missing = self.place.offset(driver.MISSING + r.choice((0, 0xFFD, 0x1234)))
        reach = self.load(register, missing) if self.bits != 16 else b""
        load = bytes((0x8B, register | register << 3)) if register not in (SP, BP) else b"\x90"
        options = [divide, divide, prepared + self.wide(b"\xf7\xf9"), b"\xf1", b"\x0f\x0b", b"\x0f\xff\xc0",
                   bytes((0xCD, r.choice((0x40, 0x80, 0xFF)))), reach + load, reach + load,
                   self.load(register, 0xFFF0) + bytes((0x8E, 0xD8 | register))]  # fmt: skip
        if self.bits == 64:
            options += [b"\x48" + bytes((0xB8 | register,)) + little(1 << 47, 8) + b"\x48" + load, b"\x06"]
        return Unit(r.choice(options))
