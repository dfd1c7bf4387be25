"""The instructions that a translator writes itself. Nothing here touches flags, but where it says so.

Encodings are those of AMD APM vol. 3, rev. 3.36. ``wide``: 64-bit code; else 32-bit code. Only jumps are
written for 16-bit code too. Offsets are in the code cache: all jumps are relative, so a block does not know
where the cache is mapped.
"""

from __future__ import annotations

from typing import Final

from vlab.machine.instructions import prefix_count

CALL_OUT: Final = 0xF4
"""HLT: at CPL 1 to 3 it faults, and the monitor sees from the address what is asked of it."""
RCX, RSP = 1, 4
IF: Final = 0x200


def fits(value: int) -> bool:
    """Say whether a number is one that 32 bits, sign-extended, can stand for."""
    return -(1 << 31) <= value < 1 << 31


def _signed(value: int) -> bytes:
    return (value & 0xFFFFFFFF).to_bytes(4, "little")


def signed(value: int, wide: bool) -> int:
    """Give an address as a signed number of its width."""
    half = 1 << (63 if wide else 31)
    return (value ^ half) - half


def _rex(wide: bool, code: bytes) -> bytes:
    return b"\x48" + code if wide else code


def jump_size(bits: int) -> int:
    """Bytes of ``jump``."""
    return 6 if bits == 16 else 5


def jump(place: int, target: int, bits: int) -> bytes:
    """JMP rel32. In 16-bit code with an operand-size prefix, lest IP be cut to 16 bits."""
    prefix = b"\x66" if bits == 16 else b""
    return prefix + b"\xe9" + _signed(target - place - len(prefix) - 5)


def hole(bits: int) -> bytes:
    """A call-out, with room for a jump over it."""
    return bytes((CALL_OUT,)) + b"\x90" * (jump_size(bits) - 1)


def branch(condition: int, bits: int) -> bytes:
    """Jcc rel32 without its last four bytes. condition: 0 to 15, as in the opcode."""
    return (b"\x66" if bits == 16 else b"") + bytes((0x0F, 0x80 | condition))


def distance(place: int, target: int) -> bytes:
    """The last four bytes of a jump, which are at ``place``."""
    return _signed(target - place - 4)


def push_constant(value: int) -> bytes:
    """PUSH imm32, sign-extended in 64-bit code."""
    return b"\x68" + _signed(value)


def move_constant(register: int, value: int, wide: bool) -> bytes:
    """MOV r, imm32: sign-extended in 64-bit code."""
    if wide:
        return bytes((0x48, 0xC7, 0xC0 | register)) + _signed(value)
    return bytes((0xB8 | register,)) + _signed(value)


def load_address(code: bytes, value: int) -> bytes:
    """MOV r, imm, of the size and to the register of a LEA in 64-bit code, which loads ``value``."""
    start = prefix_count(code, long_mode=True)
    rex = code[start - 1] if start and code[start - 1] & 0xF0 == 0x40 else 0
    register = code[start + 1] >> 3 & 7
    size = 8 if rex & 8 else 2 if 0x66 in code[:start] else 4
    prefixes = b"\x66" * (size == 2) + bytes((rex & 0x48 | (rex & 4) >> 2 | 0x40,))  # REX.R becomes REX.B
    return prefixes + bytes((0xB8 | register,)) + (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def add(register: int, value: int, wide: bool) -> bytes:
    """LEA r, [r + disp32]: the addition that leaves the flags alone."""
    return _rex(wide, bytes((0x8D, 0x80 | register << 3 | register)) + _signed(value))


def decrement(register: int) -> bytes:
    """LEA r, [r - 1], of the size that its prefix says; not for RSP."""
    return bytes((0x8D, 0x40 | register << 3 | register, 0xFF))


def drop(size: int, wide: bool) -> bytes:
    """LEA rsp, [rsp + size]."""
    return _rex(wide, b"\x8d\xa4\x24" + _signed(size))


def exchange_top(register: int, wide: bool) -> bytes:
    """XCHG r, [rsp]."""
    return _rex(wide, bytes((0x87, 0x04 | register << 3, 0x24)))


def exchange(register: int, wide: bool) -> bytes:
    """XCHG rcx, r; register: 0 to 15."""
    if wide:
        return bytes((0x48 | register >> 3, 0x87, 0xC8 | register & 7))
    return bytes((0x87, 0xC8 | register))


def push(register: int) -> bytes:
    """PUSH r."""
    return bytes((0x50 | register,))


def pop(register: int) -> bytes:
    """POP r."""
    return bytes((0x58 | register,))


def jump_if_zero(distance: int) -> bytes:
    """JRCXZ rel8: the conditional jump that looks at no flag."""
    return bytes((0xE3, distance))


PUSH_FLAGS: Final = b"\x9c"
POP_FLAGS: Final = b"\x9d"


def clear_pushed_interrupt_flag(wide: bool) -> bytes:
    """Clear IF, known to be set, in the flags on top of the stack: through RAX, by a subtraction."""
    return exchange_top(0, wide) + add(0, -IF, wide) + exchange_top(0, wide)


def test_top(mask: int) -> bytes:
    """TEST dword [rsp], mask. Sets flags."""
    return b"\xf7\x04\x24" + _signed(mask)
