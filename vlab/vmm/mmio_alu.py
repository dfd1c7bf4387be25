"""Integer arithmetic with its flags, as pure functions (AMD APM vol. 3, rev. 3.36, chapter 3).

Values are unsigned and fit ``size`` bytes. ``flags`` is all of RFLAGS; only the status flags that the
operation changes differ in the result. AF, which the logical operations leave undefined, they clear.
"""

from __future__ import annotations

from typing import Final

from vlab.isa.control import EFlags

CF: Final = EFlags.CF.mask
PF: Final = EFlags.PF.mask
AF: Final = EFlags.AF.mask
ZF: Final = EFlags.ZF.mask
SF: Final = EFlags.SF.mask
OF: Final = EFlags.OF.mask
STATUS: Final = CF | PF | AF | ZF | SF | OF

BINARY: Final = frozenset(("add", "adc", "sub", "sbb", "cmp", "and", "or", "xor", "test"))
UNARY: Final = frozenset(("inc", "dec", "neg", "not"))
BIT_TESTS: Final = frozenset(("bt", "bts", "btr", "btc"))
FLAGS_ONLY: Final = frozenset(("cmp", "test", "bt"))
"""Operations whose result nobody keeps."""

_CARRYING: Final = ("adc", "sbb")


def mask(size: int) -> int:
    """Give the largest value of ``size`` bytes."""
    return (1 << 8 * size) - 1


def sign_extend(value: int, size: int, wider: int) -> int:
    """Give ``value`` of ``size`` bytes as one of ``wider`` bytes with the same sign."""
    sign = 1 << 8 * size - 1
    return (value ^ sign) - sign & mask(wider)


def binary(name: str, a: int, b: int, size: int, flags: int) -> tuple[int, int]:
    """Do one of BINARY to target ``a`` and source ``b``; give the result and the new RFLAGS."""
    carry = flags & CF if name in _CARRYING else 0
    if name in ("add", "adc"):
        return _sum(a, b, carry, size, flags)
    if name in ("sub", "sbb", "cmp"):
        return _difference(a, b, carry, size, flags)
    result = a | b if name == "or" else a ^ b if name == "xor" else a & b
    return result, flags & ~STATUS | _of_result(result, size)


def unary(name: str, a: int, size: int, flags: int) -> tuple[int, int]:
    """Do one of UNARY; give the result and the new RFLAGS. INC and DEC keep CF, NOT keeps all flags."""
    if name == "not":
        return ~a & mask(size), flags
    if name == "neg":
        return _difference(0, a, 0, size, flags)
    result, new = (_sum if name == "inc" else _difference)(a, 1, 0, size, flags)
    return result, new & ~CF | flags & CF


def bit_test(name: str, a: int, offset: int, size: int, flags: int) -> tuple[int, int]:
    """Do one of BIT_TESTS to bit ``offset`` (taken modulo the operand's bits) of ``a``.

    CF is the bit as it was. The flags that the manual leaves undefined, and ZF, stay.
    """
    bit = 1 << offset % (8 * size)
    changed = {"bt": a, "bts": a | bit, "btr": a & ~bit, "btc": a ^ bit}[name]
    return changed, flags & ~CF | (CF if a & bit else 0)


def _sum(a: int, b: int, carry: int, size: int, flags: int) -> tuple[int, int]:
    wide = a + b + carry
    result = wide & mask(size)
    return result, flags & ~STATUS | _common(a, b, wide, size, (a ^ result) & (b ^ result))


def _difference(a: int, b: int, borrow: int, size: int, flags: int) -> tuple[int, int]:
    wide = a - b - borrow
    result = wide & mask(size)
    return result, flags & ~STATUS | _common(a, b, wide, size, (a ^ b) & (a ^ result))


def _common(a: int, b: int, wide: int, size: int, overflow: int) -> int:
    """Give the status flags of a sum or difference. wide: before it was cut; overflow: OF in its sign bit."""
    status = _of_result(wide & mask(size), size)
    if wide >> 8 * size & 1:
        status |= CF
    if (a ^ b ^ wide) & 0x10:
        status |= AF
    if overflow >> 8 * size - 1 & 1:
        status |= OF
    return status


def _of_result(result: int, size: int) -> int:
    """Give SF, ZF and PF of a result."""
    status = 0 if result else ZF
    if result >> 8 * size - 1:
        status |= SF
    if not (result & 0xFF).bit_count() & 1:
        status |= PF
    return status
