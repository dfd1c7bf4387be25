"""Random instructions, encoded as a compiler or an attacker would: whole, with operands that mean something.

``Coder.code`` mixes them with bytes at random. System instructions come far more often than in any program.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

LENGTH = 112
"""Bytes of one stream's code, about."""

_PREFIXES = (0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65)
_MSRS = (
    0x10, 0x1B, 0x8B, 0xFE, 0x174, 0x175, 0x176, 0x179, 0x200, 0x250, 0x277, 0x2FF, 0x3FF, 0x6E0, 0xDA0,
    0xC0000080, 0xC0000080, 0xC0000080, 0xC0000081,
    0xC0000082, 0xC0000083, 0xC0000084, 0xC0000100, 0xC0000101,
    0xC0000102, 0xC0000103, 0xC0010000, 0xC0010015, 0xC0010114, 0xC0010117, 0xC0010111, 0x12345678,
)  # fmt: skip

# An opcode in hexadecimal, then its operands: m a ModR/M byte with any operand, mM memory alone, mR a
# register alone, /n its middle field, i1 and iz an immediate of one byte and of the operand size, i2 of two,
# i4 an address; near and short: a displacement.
_SYSTEM = """
0f20 mR;0f20 mR;0f22 mR;0f22 mR;0f21 mR;0f23 mR;0f01 mM/0;0f01 mM/1;0f01 mM/2;0f01 mM/3;0f01 m/4;
0f01 m/6;0f01 mM/7;0f01 mR/0;0f01 mR/1;0f01 mR/2;0f01 mR/3;0f01 mR/5;0f01 mR/7;0f01d8;0f01d9;0f01da;
0f01db;0f01dc;0f01dd;0f01de;0f01df;0f01f8;0f01f9;0f01d0;0f01d1;0f01c8;0f01c9;0f01ca;0f01cb;0f01ee;
0f01ef;0f00 m/0;0f00 m/1;0f00 m/2;0f00 m/3;0f00 m/4;0f00 m/5;0f02 m;0f03 m;63 m;0f05;0f07;0f34;0f35;
480f07;480f35;0f06;0f08;0f09;0fa2;0f30;0f32;0f31;0f33;0faa;0f0b;0f37;f1;cc;ce;cd i1;cd i1;f4;fa;fb;9c;
9d;9b;0fae mM/0;0fae mM/1;0fae mM/2;0fae mM/3;0fae mM/4;0fae mM/5;0fae mM/6;0fae mM/7;0fae mR/0;
f30fae mR/0;f30fae mR/1;f30fae mR/2;f30fae mR/3;0faee8;0faef0;0faef8;0fc7 mM/1;480fc7 mM/1;0fc7 mM/3;
0fc7 mM/4;0fc7 mM/5;0fc7 m/6;0fc7 m/7;0f0d m/1;0f18 m/0;f30fb8 m;660f3880 m;660f3881 m;660f3882 m;
f20f38f0 m;f20f38f1 m;0f38f0 mM;0f38f1 mM;0f38f6 m
"""
_TRANSFER = """
8e m;8e m;8e m/2;8e m/1;8c m;06;07;0e;16;17;1e;1f;0fa0;0fa1;0fa8;0fa9;c4 mM;c5 mM;0fb2 mM;0fb4 mM;
0fb5 mM;ff mM/3;ff mM/5;ff m/2;ff m/4;ff m/6;8f m/0;c2 i2;c3;ca i2;cb;cf;cf;48cf;66cf;48cb;c8 i2 i1;c9;
e8 near;eb short;74 short;75 short;e2 short;e3 short;e0 short;60;61;62 mM;50;58;54;5c;68 iz;6a i1;
0f84 near
"""
_STRINGS = """
a4;a5;48a5;a6;a7;aa;ab;48ab;ac;ad;ae;af;6c;6d;6e;6f;6c;6d;6e;6f;f3a4;f3a5;f3a6;f2a7;f3aa;f3ab;f3ac;f2ae;
f3af;f36c;f36d;f36e;f36f;e4 i1;e5 i1;e6 i1;e7 i1;ec;ed;ee;ef;d7;fc;fd
"""
_PLAIN = """
00 m;01 m;02 m;03 m;11 m;13 m;19 m;1b m;21 m;29 m;31 m;33 m;39 m;3b m;81 m/0 iz;81 m/2 iz;81 m/4 iz;
83 m/1 i1;83 m/3 i1;83 m/7 i1;80 m/5 i1;f6 m/0 i1;f6 m/3;f7 m/2;f7 m/3;f7 m/4;f7 m/5;f7 m/6;f7 m/7;
f6 m/6;f6 m/7;fe m/0;ff m/0;ff m/1;86 m;87 m;88 m;89 m;8a m;8b m;8d mM;8d mR;c6 m/0 i1;c7 m/0 iz;
c0 m/0 i1;c1 m/1 i1;d1 m/2;d3 m/3;d3 m/4;d2 m/5;c1 m/7 i1;69 m iz;6b m i1;0faf m;0fa3 m;0fab m;0fb3 m;
0fbb m;0fba m/4 i1;0fba m/5 i1;0fba m/6 i1;0fba m/7 i1;0fbc m;0fbd m;f30fbc m;f30fbd m;0fa4 m i1;0fa5 m;
0fac m i1;0fad m;0fb0 m;0fb1 m;0fc0 m;0fc1 m;0fb6 m;0fb7 m;0fbe m;0fbf m;0fc3 mM;0fc8;0fcb;0f44 m;
0f95 m;27;2f;37;3f;d4 i1;d5 i1;98;99;4898;90;f390;91;40;48;f5;f8;d6;9e;9f;b8 iz;b9 iz;bc iz;a1 i4;a3 i4
"""
_MEDIA = """
0f10 m;0f11 m;660f10 m;f20f10 m;f30f10 m;0f12 m;0f13 m;0f14 m;0f16 m;0f28 m;0f29 m;0f2a m;f20f2a m;
0f2b mM;0f2c m;f20f2d m;0f2e m;0f50 mR;0f51 m;f20f51 m;0f54 m;0f57 m;0f58 m;660f59 m;f20f5e m;f30f5a m;
0f5b m;660f60 m;0f63 m;660f6e m;0f6f m;660f6f m;f30f6f m;0f70 m i1;0f71 mR/2 i1;660f73 mR/3 i1;0f77;
660f7e m;0f7f m;0fc2 m i1;0fc4 m i1;0fc5 mR i1;0fc6 m i1;0fd0 m;660fd6 m;0fd7 mR;0fe7 mM;660fe7 mM;
0ff0 m;f20ff0 mM;0ff7 mR;660ff7 mR;660f3800 m;660f3817 m;660f3840 m;660f3a0f m i1;660f3a14 m i1;
660f3a20 m i1;660f3a60 m i1;660f3a63 m i1;660f38db m;660f38de m;660f3adf m i1;660f3a44 m i1;f20f7c m;
0f0f m i1;d8 m;d9 m;da m;db m;dc m;dd m;de m;df m;dbe3;dbe2;d9fa;d9f0;d9f8;d9e4;dd mM/4;dd mM/6;d9 mM/4;
d9 mM/6;d9 mM/5;df mM/4;df mM/6;db mM/5;db mM/7;9b;c5f877;c5f810 m
"""


def _table(text: str) -> list[tuple[bytes, tuple[str, ...]]]:
    entries = [entry.split() for entry in text.replace("\n", "").strip(";").split(";")]
    return [(bytes.fromhex(entry[0]), tuple(entry[1:])) for entry in entries]


_TABLES = tuple(_table(text) for text in (_SYSTEM, _TRANSFER, _STRINGS, _PLAIN, _MEDIA))
_OFTEN = (0,) * 7 + (1,) * 5 + (2,) * 3 + (3,) * 4 + (4,) * 3


class Coder:
    """Writes code.

    width: 16, 32 or 64, of the segment it is for. code, data: where the code and its data are, as offsets in
    their segments. value() gives a number, selector() a selector that instructions find interesting.
    """

    def __init__(
        self,
        random: Random,
        width: int,
        code: int,
        data: int,
        value: Callable[[], int],
        selector: Callable[[], int],
    ) -> None:
        self.random, self.width = random, width
        self._code, self._data, self._value, self._selector = code, data, value, selector

    def code(self) -> bytes:
        """Write one stream's code."""
        r = self.random
        if r.random() < 0.2:
            return r.randbytes(LENGTH)
        out = bytearray()
        while len(out) < LENGTH:
            out += self.instruction()
        return bytes(out)

    def instruction(self) -> bytes:
        """Write one instruction, or the few that prepare one and that one."""
        r = self.random
        kind = r.random()
        if kind < 0.05:
            return r.randbytes(r.randrange(1, 9))
        if kind < 0.15:
            return self._far_transfer()
        if kind < 0.32:
            return self._prepared()
        opcode, operands = r.choice(_TABLES[r.choice(_OFTEN)])
        return self._prefixes() + opcode + b"".join(map(self._operand, operands))

    def _prefixes(self) -> bytes:
        r = self.random
        head = bytes((r.choice(_PREFIXES),)) if r.random() < 0.15 else b""
        if self.width == 64 and r.random() < 0.3:
            head += bytes((r.randrange(0x40, 0x50),))
        return head

    def _operand(self, what: str) -> bytes:
        r = self.random
        if what[0] == "m":
            return self._modrm(what)
        if what == "near":
            return r.randrange(-40, 60).to_bytes(2 if self.width == 16 else 4, "little", signed=True)
        if what == "short":
            return r.randrange(-40, 60).to_bytes(1, "little", signed=True)
        size = {"i1": 1, "i2": 2, "i4": 2 if self.width == 16 else 4, "iz": 2 if self.width == 16 else 4}[
            what
        ]
        return self.number(size)

    def number(self, size: int) -> bytes:
        """Write an interesting number of ``size`` bytes."""
        return (self._value() & (1 << 8 * size) - 1).to_bytes(size, "little")

    def _modrm(self, what: str) -> bytes:
        r = self.random
        middle = int(what[-1]) if "/" in what else r.randrange(8)
        if what[1:2] == "R" or (what[1:2] != "M" and r.random() < 0.35):
            return bytes((0xC0 | middle << 3 | r.randrange(8),))
        place = self._data + r.randrange(0x1000)
        if self.width == 16:
            form = r.randrange(4)
            if form == 0:
                return bytes((middle << 3 | r.choice((0, 1, 2, 3, 4, 5, 7)),))
            if form == 1:
                return bytes((0x40 | middle << 3 | r.randrange(8), r.randrange(256)))
            return bytes((middle << 3 | 6,)) + (place & 0xFFFF).to_bytes(2, "little")
        form = r.randrange(6)
        if form == 0:
            return bytes((middle << 3 | r.choice((0, 1, 2, 3, 6, 7)),))
        if form == 1:
            return bytes((0x40 | middle << 3 | r.choice((0, 1, 2, 3, 5, 6, 7)), r.randrange(256)))
        if form == 2:
            return bytes((middle << 3 | 4, r.randrange(256) & ~7 | r.choice((0, 1, 2, 3, 4, 6, 7))))
        if form == 3:
            return bytes((0x80 | middle << 3 | r.choice((0, 1, 2, 3, 5, 6, 7)),)) + self.number(4)
        return bytes((middle << 3 | 4, 0x25)) + place.to_bytes(4, "little")

    def _load(self, opcode: int, value: int) -> bytes:
        """MOV register, value."""
        size = 2 if self.width == 16 else 4
        if self.width == 16 and value > 0xFFFF and self.random.random() < 0.7:
            return bytes((0x66, opcode)) + (value & 0xFFFFFFFF).to_bytes(4, "little")
        return bytes((opcode,)) + (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def _push(self, value: int) -> bytes:
        size = 2 if self.width == 16 else 4
        return b"\x68" + (value & (1 << 8 * size - 1) - 1).to_bytes(size, "little")

    def _far_transfer(self) -> bytes:
        """A far jump or call, or a frame on the stack and what takes it."""
        r = self.random
        target = self._code + r.randrange(LENGTH)
        if r.random() < 0.4 and self.width != 64:
            size = 2 if self.width == 16 else 4
            opcode = bytes((r.choice((0x9A, 0xEA)),))
            return (
                opcode
                + (target & (1 << 8 * size) - 1).to_bytes(size, "little")
                + self._word(self._selector())
            )
        flags = r.choice((2, 0x202, 0x3202, 0x102, 0x4002, 0x20002, 0x23202, 0x10002, r.getrandbits(22)))
        frame = [target, self._selector(), flags, self._value(), self._selector()]
        if r.random() < 0.2:
            frame += [self._selector() for _ in range(4)]
        frame = frame[: r.choice((2, 3, 5, 9))]
        return b"".join(map(self._push, reversed(frame))) + r.choice(
            (
                b"\xcf",
                b"\xcf",
                b"\x48\xcf" if self.width == 64 else b"\x66\xcf",
                b"\xcb",
                b"\xca\4\0",
                b"\x66\xcb",
            )
        )

    @staticmethod
    def _word(value: int) -> bytes:
        return (value & 0xFFFF).to_bytes(2, "little")

    def _prepared(self) -> bytes:
        """MOV EAX (ECX, EDX ...), value; then an instruction that takes it."""
        r, load, value, wrmsr = self.random, self._load, self._value, b"\x0f\x30"
        strings = (b"\xf3\xa4", b"\xf3\xab", b"\xf3\x6c", b"\xf3\x6f", b"\xf3\xa6")
        control = 0xC0 | r.choice((0, 0, 2, 3, 3, 4, 4, 8, 6, 7, 5, 1)) % 8 << 3
        return r.choice((
            lambda: load(0xB8, value()) + b"\x0f\x22" + bytes((control,)),
            lambda: load(0xB8, value()) + b"\x0f\x23" + bytes((control,)),
            lambda: load(0xB9, r.choice(_MSRS)) + load(0xB8, value()) + load(0xBA, value()) + wrmsr,
            lambda: load(0xB9, 0xC0000080) + load(0xB8, r.getrandbits(13)) + load(0xBA, 0) + wrmsr,
            lambda: load(0xB9, r.choice(_MSRS)) + b"\x0f\x32",
            lambda: load(0xB8, self._selector()) + b"\x0f\x00" + bytes((r.choice((0xD0, 0xD8, 0xE0, 0xE8)),)),
            lambda: load(0xB8, self._selector()) + b"\x8e" + bytes((0xC0 | r.randrange(6) << 3,)),
            lambda: load(0xB8, value()) + b"\x0f\x01" + bytes((r.choice((0xF0, 0xE0)),)),
            lambda: self._push(value()) + b"\x9d",
            lambda: load(0xBA, r.getrandbits(16)) + bytes((r.choice((0xEC, 0xED, 0xEE, 0xEF, 0x6C, 0x6F)),)),
            lambda: load(0xB9, r.randrange(64)) + r.choice(strings),
            lambda: load(0xB8, value()) + b"\x0f\x01" + bytes((r.randrange(0xD8, 0xE0),)),
            lambda: load(0xBC, value()) + bytes((r.choice((0x50, 0x58, 0xCF, 0x60, 0x61)),)),
            lambda: self._load(0xB8 | r.randrange(8), self._data + r.randrange(0x1000)),
        ))()  # fmt: skip
