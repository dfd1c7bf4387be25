"""Random instruction streams, and worlds to run them in: plausible tables, odd registers, eight kinds of mode.

A stream is what a broken or hostile guest might do. ``make(seed)`` gives the same one for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from vlab.isa.descriptors import pack_segment
from vlab.isa.state import CpuState, Segment, TableRegister

CODE, DATA, STACK, GDT, IDT, TSS, TSS2, LDT = (
    0x10000,
    0x20000,
    0x30000,
    0x1000,
    0x2000,
    0x4000,
    0x4800,
    0x5000,
)
PML4, LEGACY, PAE = 0x80000, 0x90000, 0xA0000
RAM = 4 << 20
WINDOW = 0xFEE00000
MODES = ("real", "prot16", "prot32", "user32", "paged32", "pae32", "v86", "long", "longuser", "compat")

_SYSTEM = (
    "0f00", "0f01", "0f20", "0f21", "0f22", "0f23", "0fb2", "0fb4", "0fb5", "0f02", "0f03", "0fc7", "0fae", "0fa2",
    "0f30", "0f32", "0f31", "0f33", "0f34", "0f35", "0f05", "0f07", "0f06", "0f08", "0f09", "0faa", "0f0b", "0f37",
)  # fmt: skip
_ONE_BYTE = (
    0x8E, 0x8C, 0x07, 0x17, 0x1F, 0x06, 0x0E, 0x16, 0x1E, 0xC4, 0xC5, 0xCA, 0xCB, 0xCF, 0xCC, 0xCD, 0xCE, 0xF1, 0xF4,
    0xFA, 0xFB, 0x9C, 0x9D, 0xFF, 0x9A, 0xEA, 0xC8, 0xC9, 0x62, 0x63, 0xE4, 0xE5, 0xE6, 0xE7, 0xEC, 0xED, 0xEE, 0xEF,
    0x6C, 0x6D, 0x6E, 0x6F, 0xA4, 0xA5, 0xA6, 0xAA, 0xAB, 0xAC, 0xAE, 0x60, 0x61, 0xD7, 0xE2, 0xE3, 0xC2, 0xC3, 0xE8,
    0x9B, 0xD4, 0xD5, 0x27, 0x2F, 0x37, 0x3F, 0xF6, 0xF7, 0xA1, 0xA3, 0x8F, 0xFE, 0x87, 0x69, 0xC0, 0xC7,
)  # fmt: skip
_PREFIXES = (0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65)
_MSRS = (
    0x10, 0x1B, 0x8B, 0xFE, 0x174, 0x175, 0x176, 0x179, 0x200, 0x277, 0x2FF, 0xC0000080, 0xC0000081, 0xC0000082,
    0xC0000084, 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103, 0xC0010114, 0xC0010117, 0xC0010111, 0x12345678,
)  # fmt: skip
_TYPES = (*range(16), 1, 9, 4, 12, 5, 2, 6, 7, 14, 15, 3, 11)


@dataclass
class Stream:
    """One stream: memory to put at addresses, a state to start from, and where an interrupt comes (or not)."""

    mode: str
    memory: dict[int, bytes]
    state: CpuState
    interrupt: int


class Maker:
    """Makes one stream."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.mode = MODES[seed % len(MODES)]
        self.long = self.mode in ("long", "longuser", "compat")

    def value(self) -> int:
        """Give a number that instructions find interesting."""
        r = self.random
        return r.choice((
            lambda: r.randrange(256),
            lambda: r.choice((CODE, DATA, STACK, GDT, IDT, TSS, LDT, PML4, LEGACY, PAE, WINDOW)) + r.randrange(4096),
            lambda: r.randrange(RAM),
            lambda: self.selector(),
            lambda: 1 << r.randrange(64),
            lambda: (1 << 64) - 1 - r.randrange(256),
            lambda: r.getrandbits(32),
            lambda: r.getrandbits(64),
            lambda: r.choice((0x11, 0x80000011, 0x80000001, 0x10, 0x60000010, 0x20, 0x6A0, 0x1021, 0x40020)),
        ))()  # fmt: skip

    def selector(self) -> int:
        r = self.random
        return (
            r.randrange(40) << 3 | r.choice((0, 0, 0, 3, 4, 7, 1)) if r.random() < 0.95 else r.getrandbits(16)
        )

    # --- code -------------------------------------------------------------------------------------------

    def code(self) -> bytes:
        r = self.random
        style = r.random()
        if style < 0.25:
            return r.randbytes(96)
        out = bytearray()
        while len(out) < 96:
            out += self.instruction()
        return bytes(out[:128])

    def instruction(self) -> bytes:
        r = self.random
        head = bytes(r.choice(_PREFIXES) for _ in range(r.choice((0, 0, 0, 1, 1, 2))))
        if self.mode in ("long", "longuser") and r.random() < 0.4:
            head += bytes((r.randrange(0x40, 0x50),))
        kind = r.random()
        if kind < 0.25:
            body = bytes.fromhex(r.choice(_SYSTEM)) + r.randbytes(r.randrange(1, 7))
        elif kind < 0.5:
            body = bytes((r.choice(_ONE_BYTE),)) + r.randbytes(r.randrange(0, 5))
        elif kind < 0.6:
            body = bytes((r.randrange(0xD8, 0xE0),)) + r.randbytes(r.randrange(1, 5))
        elif kind < 0.75:
            body = b"\x0f" + r.randbytes(r.randrange(2, 8))
        elif kind < 0.83:
            body = self.far_transfer()
        elif kind < 0.93:
            body = self.privileged()
        else:
            body = r.randbytes(r.randrange(1, 8))
        return head + body

    def far_transfer(self) -> bytes:
        r = self.random
        if r.random() < 0.5 and not self.long:
            width = 2 if self.mode in ("real", "prot16", "v86") else 4
            return (
                bytes((r.choice((0x9A, 0xEA)),))
                + (CODE + r.randrange(96)).to_bytes(4, "little")[:width]
                + self.selector().to_bytes(2, "little")
            )
        push = b"".join(
            b"\x68" + (self.value() & 0x7FFFFFFF).to_bytes(4, "little") for _ in range(r.randrange(6))
        )
        return push + bytes((r.choice((0xCF, 0xCB, 0xCA)),)) + r.randbytes(2)

    def privileged(self) -> bytes:
        """MOV EAX (ECX, EDX), value; then an instruction that takes it."""
        r = self.random
        short = self.mode in ("real", "prot16", "v86")

        def load(opcode: int, value: int) -> bytes:
            return bytes((opcode,)) + (value & 0xFFFFFFFF).to_bytes(4, "little")[: 2 if short else 4]

        modrm = 0xC0 | r.choice((0, 2, 3, 4, 4, 8, 6, 7, 5, 1)) % 8 << 3
        return r.choice((
            lambda: load(0xB8, self.value()) + b"\x0f\x22" + bytes((modrm,)),
            lambda: load(0xB8, self.value()) + b"\x0f\x23" + bytes((modrm,)),
            lambda: load(0xB9, r.choice(_MSRS)) + load(0xB8, self.value()) + load(0xBA, self.value()) + b"\x0f\x30",
            lambda: load(0xB9, r.choice(_MSRS)) + b"\x0f\x32",
            lambda: load(0xB8, self.selector()) + b"\x0f\x00" + bytes((r.choice((0xD0, 0xD8, 0xE0, 0xE8)),)),
            lambda: load(0xB8, self.selector()) + b"\x8e" + bytes((0xC0 | r.randrange(6) << 3,)),
            lambda: load(0xB8, self.value()) + b"\x0f\x01" + bytes((r.choice((0xF0, 0xE0)),)),
            lambda: load(0xB8, self.value()) + b"\x50\x9d",
            lambda: load(0xBA, r.getrandbits(16)) + bytes((r.choice((0xEC, 0xED, 0xEE, 0xEF, 0x6C, 0x6F)),)),
            lambda: load(0xB9, r.randrange(64)) + b"\xf3" + bytes((r.choice((0xA4, 0xAB, 0x6C, 0x6F, 0xA6)),)),
            lambda: b"\x0f\x01" + bytes((r.randrange(0xC0, 0x100),)),
            lambda: load(0xBC, self.value()) + bytes((r.choice((0x50, 0x58, 0xCF, 0x60, 0x61)),)),
        ))()  # fmt: skip

    # --- tables -----------------------------------------------------------------------------------------

    def descriptor(self) -> bytes:
        r = self.random
        base = r.choice((0, 0, 0, CODE, DATA, TSS, TSS2, LDT, r.getrandbits(32)))
        limit = r.choice((0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF, 0x67, 0x2B, 0xFFF, r.getrandbits(20)))
        if r.random() < 0.5:
            attributes = 0x90 | r.randrange(16) | r.randrange(4) << 5 | r.choice((0x400, 0, 0x200))
        else:
            attributes = r.choice(_TYPES) | r.randrange(4) << 5 | (0x80 if r.random() < 0.9 else 0)
            if attributes & 7 in (4, 5, 6, 7):  # a gate
                return self.gate(attributes)
        attributes |= 0x800 if limit > 0xFFFFF else 0
        return int(pack_segment(Segment(0, base, limit, attributes))).to_bytes(8, "little")

    def gate(self, attributes: int) -> bytes:
        offset, selector = (
            CODE + self.random.randrange(128),
            self.selector() if self.random.random() < 0.4 else 8,
        )
        high = (offset & 0xFFFF0000) | (attributes & 0xFF) << 8 | self.random.randrange(4)
        return (high << 32 | selector << 16 | offset & 0xFFFF).to_bytes(8, "little")

    def gdt(self) -> bytes:
        fixed = {
            1: 0xA9B if self.mode == "long" else 0x09B if self.mode == "prot16" else 0xC9B, 2: 0xC93, 3: 0xAFB,
            4: 0xCFB, 5: 0xCF3, 6: 0x09B, 7: 0x093,
        }  # fmt: skip
        if self.mode == "compat":
            fixed[1] = 0xA9B
        out = bytearray(8)
        for number in range(1, 40):
            if number in fixed:
                segment = Segment(0, 0, 0xFFFFFFFF if fixed[number] & 0x800 else 0xFFFF, fixed[number])
                out += int(pack_segment(segment)).to_bytes(8, "little")
            elif number == 8:
                out += int(pack_segment(Segment(0, TSS, 0x67, 0x89))).to_bytes(16, "little")
            elif number != 9:
                out += self.descriptor()
        return bytes(out)

    def idt(self) -> bytes:
        r = self.random
        if self.mode == "real":
            return b"".join(
                (CODE & 0xF000 | r.randrange(128)).to_bytes(2, "little") + (CODE >> 4).to_bytes(2, "little")
                for _ in range(256)
            )
        out = bytearray()
        for _ in range(48):
            kind = r.choice((0x8E, 0x8E, 0x8E, 0xEE, 0x8F, 0xEF, 0x86, 0x87, 0x85, 0x0E, r.randrange(256)))
            out += self.gate(kind)
            if self.long:
                out += bytes(8)
        return bytes(out)

    def entry(self, target: int) -> int:
        r = self.random
        flags = r.choice((7, 7, 7, 7, 3, 5, 1, 6, 0x67)) | (1 << 63 if r.random() < 0.05 else 0)
        return target | flags if r.random() < 0.97 else r.getrandbits(64)

    def page_tables(self) -> dict[int, bytes]:
        r = self.random
        pack = int.to_bytes
        large = {n: self.entry(n << 21 | 0x80) if r.random() < 0.3 else n << 21 | 0x87 for n in range(2)}
        directory = b"".join(pack(large[n], 8, "little") for n in range(2))
        small = b"".join(
            pack(self.entry(n << 12) & 0xFFFFFFFF if r.random() < 0.1 else n << 12 | 7, 4, "little")
            for n in range(1024)
        )
        return {
            PML4: pack(PML4 + 0x1000 | 7, 8, "little"),
            PML4 + 0x1000: b"".join(pack(PML4 + 0x2000 | 7, 8, "little") for _ in range(4)),
            PML4 + 0x2000: directory,
            PML4 + 0x2FB8: pack(WINDOW & ~0x1FFFFF | 0x87, 8, "little"),
            PML4 + 0xFF8: pack(PML4 + 0x1000 | 7, 8, "little"),
            LEGACY: pack(LEGACY + 0x1000 | 7, 4, "little") + pack(self.entry(0x80) & 0xFFFFFFFF, 4, "little"),
            LEGACY + 0x1000: small,
            PAE: pack(PAE + 0x1000 | 1, 8, "little") + pack(self.entry(PAE), 8, "little"),
            PAE + 0x1000: directory,
        }

    # --- states -----------------------------------------------------------------------------------------

    def state(self) -> CpuState:
        r, mode = self.random, self.mode
        if mode in ("real", "v86"):
            state = CpuState.real_mode(CODE >> 4, 0)
        elif self.long:
            state = CpuState.long64(CODE, PML4)
        else:
            state = CpuState.flat32(CODE)
        for name in ("rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16))):
            value = self.value()
            setattr(state, name, value if self.long or name.startswith("r1") else value & 0xFFFFFFFF)
        state.rcx &= 0xFFF
        state.rsp = (0x8000 if mode in ("real", "v86") else STACK) + r.randrange(0x800) * 2
        state.rflags = 2 | r.choice((0, 0x200, 0x3000, 0x100, 0x4000, 0x400, 0x40200, 0x10000, 0x8D5))
        if mode == "real":
            state.idtr = TableRegister(IDT, 0x3FF)
            for name in ("ds", "es", "ss"):
                setattr(state, name, Segment(DATA >> 4, DATA))
            return state
        state.gdtr = TableRegister(GDT, r.choice((0x13F, 0x13F, 0x4F, 0xFFFF)))
        state.idtr = TableRegister(IDT, r.choice((0x2FF, 0x17F, 0xFFF, 0x7F)))
        state.tr, state.ldtr = Segment(0x40, TSS, 0x67, 0x8B), Segment(0x60, LDT, 0xFF, 0x82)
        state.efer |= r.choice((0, 1, 0x800, 0x801))
        state.star = self.selector() << 48 | self.selector() << 32 | CODE
        state.lstar = state.cstar = CODE + r.randrange(64)
        state.sysenter_cs, state.sysenter_eip, state.sysenter_esp = self.selector(), CODE, STACK
        self._enter(state)
        state.cr4 |= r.choice((0, 0x200, 0x600, 0x10, 0x80, 0x8, 0x10000, 0x100600))
        state.cr0 |= r.choice((0, 0, 0x10000, 0x8, 0x4, 0x2, 0x20))
        return state

    def _enter(self, state: CpuState) -> None:
        ring = 3 if self.mode in ("user32", "longuser", "compat") else self.random.choice((0, 0, 0, 1))
        selector, attributes = {
            "prot16": (8, 0x09B), "long": (8, 0xA9B), "longuser": (0x1B, 0xAFB), "compat": (0x23, 0xCFB),
            "user32": (0x23, 0xCFB),
        }.get(self.mode, (8, 0xC9B))  # fmt: skip
        if self.mode == "v86":
            state.cr0, state.rflags = 0x11, state.rflags | 0x20000
            for name in ("cs", "ss", "ds", "es", "fs", "gs"):
                base = CODE if name == "cs" else DATA
                setattr(state, name, Segment(base >> 4, base, 0xFFFF, 0xF3))
            return
        state.cs = Segment(selector & ~3 | ring, 0, 0xFFFFFFFF, attributes & ~0x60 | ring << 5)
        data = Segment(0x28 | ring if ring == 3 else 0x10 | ring, 0, 0xFFFFFFFF, 0xC93 | ring << 5)
        for name in ("ss", "ds", "es", "fs", "gs"):
            setattr(state, name, data.copy())
        if self.mode == "paged32":
            state.cr3, state.cr0, state.cr4 = LEGACY, 0x80000011, 0x10
        elif self.mode == "pae32":
            state.cr3, state.cr0, state.cr4 = PAE, 0x80000011, 0x20

    def make(self) -> Stream:
        r = self.random
        memory = self.page_tables() if self.mode not in ("real", "v86", "prot16", "prot32", "user32") else {}
        tss = bytearray(0x100)
        for offset in (4, 12, 20):
            tss[offset : offset + 8] = (STACK | 0x10 << 32).to_bytes(8, "little")
        if self.long:
            for offset in range(4, 0x60, 8):
                tss[offset : offset + 8] = STACK.to_bytes(8, "little")
        tss2 = b"".join((self.value() & 0xFFFFFFFF).to_bytes(4, "little") for _ in range(26))
        memory |= {
            GDT: self.gdt(), IDT: self.idt(), TSS: bytes(tss), TSS2: tss2,
            LDT: b"".join(self.descriptor() for _ in range(32)),
            CODE: self.code() + b"\xeb\xfe",
            DATA: b"".join((self.value() & (1 << 64) - 1).to_bytes(8, "little") for _ in range(64)),
            STACK - 256: b"".join((self.value() & (1 << 64) - 1).to_bytes(8, "little") for _ in range(512)),
        }  # fmt: skip
        return Stream(self.mode, memory, self.state(), r.choice((-1, -1, r.randrange(256))))


def make(seed: int) -> Stream:
    """Give stream number ``seed``."""
    return Maker(seed).make()
