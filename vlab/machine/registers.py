"""The live register file: the emulator's own processor structure, read and written in place.

Unicorn keeps its processor in one C structure, QEMU's `CPUX86State`. A call into the library costs 1 to 3 us
a register; a look into the structure through a memoryview costs 0.05 us, and an exit looks at a dozen. So
``locate`` finds the structure at start-up, by writing values that nothing else holds and searching for them,
and checks each field the same way; a release of the emulator that moved a field is refused, never misread.

Offsets are bytes from the start of the structure, sizes as in QEMU 5.0 (the same on every 64-bit platform,
for every member has a fixed width).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vlab.machine.cpu import UnknownEmulator

RIP: Final = 16  # index of a 64-bit word, after the sixteen general registers
EFLAGS: Final = 17  # complete between two runs; within one, arithmetic flags and DF are kept apart
CC_DST: Final = 18
CC_SRC: Final = 19
CC_SRC2: Final = 20
CC_OP_DF: Final = 21  # two 32-bit numbers
HFLAGS_PAIR: Final = 22  # hflags, hflags2

CC_OP_WORD: Final = 42  # the same as indexes of 32-bit words
DF_WORD: Final = 43
HFLAGS: Final = 44
HFLAGS2: Final = 45
CC_OP_EFLAGS: Final = 1
"""In CC_OP: CC_SRC holds the arithmetic flags as they are."""
ARITHMETIC: Final = 0x8D5
"""CF PF AF ZF SF OF."""
DF: Final = 1 << 10
INHIBIT: Final = 1 << 3
"""In hflags: the next instruction is in an interrupt shadow."""

SEGMENTS: Final = 0xB8  # ES CS SS DS FS GS LDTR TR GDTR IDTR
SEGMENT_SIZE: Final = 24
SEGMENT: Final = struct.Struct("<I4xQII")  # selector, base, limit, flags
CR0: Final = 53  # 64-bit words again: CR0 to CR4
CR2: Final = 55
CR3: Final = 56
CR4: Final = 57
PKRU_BEHIND_PAT: Final = 6  # 32-bit words from MSR PAT, `Layout.msrs`, to PKRU

# From the field that holds the VMCB's address, at `Layout.vmcb`.
ERROR_CODE: Final = -120
NEXT_EIP: Final = -112
DR: Final = -104
OLD_EXCEPTION: Final = -8
INTERCEPTS: Final = 16  # exit codes 0x60 up: word 3 of the VMCB in the low half, word 4 in the high one
INTERCEPT_CR: Final = 24  # reads in the low 16 bits, writes in the high ones
INTERCEPT_DR: Final = 28
INTERCEPT_EXCEPTIONS: Final = 32
NESTED_CR3: Final = 40
SAVED_SIZE: Final = 56  # end of what one virtual processor owns

INTERRUPT_REQUEST: Final = 0x1C  # in the CPUState before it
VIRTUAL_INTERRUPT: Final = 0x100

_PROBE: Final = tuple(0x5A17_C0DE_0000_0000 + 0x1111 * (number + 1) for number in range(16))
_SEARCH_HANDLE: Final = 4096
_SEARCH_CPU: Final = 1 << 16
_SEARCH_FEATURES: Final = 0x2000

FEATURES_1_EDX, FEATURES_1_ECX, FEATURES_7_EBX = 0, 1, 2
FEATURES_EXT_EDX, FEATURES_EXT_ECX = 6, 7
_HEAD_OF_CPU: Final = 0x400
"""Bytes at the start of CPUState among which its pointer to CPUX86State is."""
SEARCH_ENV: Final = 0x1600
"""No more than the structure itself: what lies behind it may hold an earlier engine's numbers."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in this process and this release.

    cpu, env: addresses of the emulator's CPUState and CPUX86State. efer, msrs: byte offsets in env.
    vmcb: byte offset of the current VMCB's address.
    """

    cpu: int
    env: int
    vmcb: int
    msrs: dict[str, int]

    @property
    def size(self) -> int:
        """Bytes of env that make up one virtual processor."""
        return self.vmcb + SAVED_SIZE


def flag_places(env: int) -> tuple[int, int, int]:
    """Give the addresses of eflags, hflags and the selector in CS."""
    return env + 8 * EFLAGS, env + 4 * HFLAGS, env + SEGMENTS + SEGMENT_SIZE


def find_env(handle: int, write_general: Callable[[int, int], None]) -> tuple[int, int]:
    """Find (CPUState, CPUX86State) of the engine ``handle`` by values written to its general registers.

    write_general(n, value) writes general register n. Raises UnknownEmulator when they are not found.
    """
    for number, value in enumerate(_PROBE):
        write_general(number, value)
    wanted = struct.pack("<16Q", *_PROBE)
    engine = _peek(handle, _SEARCH_HANDLE)
    pointers = {pointer for (pointer,) in struct.iter_unpack("<Q", engine[: len(engine) // 8 * 8])}
    # Highest first: of the objects that lie shortly before the register file, CPUState is the nearest.
    for candidate in sorted(pointers, reverse=True):
        if not 0x10000 <= candidate < 1 << 47 or candidate % 8:
            continue
        memory = _peek(candidate, _SEARCH_CPU)
        found = memory.find(wanted)
        while found >= 0:
            env = candidate + found
            if struct.pack("<Q", env) in memory[:_HEAD_OF_CPU] and _follows(env, write_general):
                return candidate, env
            found = memory.find(wanted, found + 8)
    raise UnknownEmulator("its processor structure was not found")


def _follows(env: int, write_general: Callable[[int, int], None]) -> bool:
    """Tell the structure from a copy that an earlier search left in freed memory: it follows a write."""
    changed = ~_PROBE[0] & 0xFFFFFFFFFFFFFFFF
    write_general(0, changed)
    live = _peek(env, 8) == struct.pack("<Q", changed)
    write_general(0, _PROBE[0])
    return live


def find_value(env: int, size: int, value: int, what: str) -> int:
    """Find the byte offset of a 64-bit ``value`` that occurs once in the structure."""
    blob = ctypes.string_at(env, size)
    packed = struct.pack("<Q", value)
    place = blob.find(packed)
    if place < 0 or blob.find(packed, place + 1) >= 0:
        raise UnknownEmulator(f"{what} was not found in its processor structure")
    return place


def cut_features(env: int, signature: int, allowed: dict[int, int]) -> None:
    """Take features from the emulated processor, so that their instructions raise #UD.

    signature: CPUID Fn0000_0001 EAX, which stands before the feature words. allowed: what to leave of word n;
    the order is that of QEMU's `FeatureWord`.
    """
    blob = ctypes.string_at(env, _SEARCH_FEATURES)
    place = blob.find(b"AuthenticAMD" + struct.pack("<I", signature))
    if place < 0 or place % 8:
        raise UnknownEmulator("the features of its processor were not found")
    words = (ctypes.c_uint64 * (max(allowed) + 1)).from_address(env + place + 16)
    for number, mask in allowed.items():
        words[number] &= mask


def _peek(address: int, size: int) -> bytes:
    """Read this process's memory at an address that may not be mapped: the readable bytes from there on."""
    if sys.platform == "win32":
        return _peek_windows(address, size)
    return _peek_pipe(address, size)


def _peek_pipe(address: int, size: int) -> bytes:
    """Let the kernel copy: write(2) answers EFAULT where a plain read would end the process."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.write.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    libc.write.restype = ctypes.c_ssize_t
    reader, writer = os.pipe()
    try:
        out = bytearray()
        while len(out) < size:
            here = address + len(out)
            step = min(size - len(out), 4096 - here % 4096)
            if libc.write(writer, here, step) != step:
                break
            out += os.read(reader, step)
        return bytes(out)
    finally:
        os.close(reader)
        os.close(writer)


def _peek_windows(address: int, size: int) -> bytes:
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
    out = ctypes.create_string_buffer(size)
    kernel.ReadProcessMemory.argtypes = (
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_size_t)
    )  # fmt: skip
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    read = ctypes.c_size_t()
    done = 0
    while done < size:
        step = min(size - done, 4096 - (address + done) % 4096)
        if not kernel.ReadProcessMemory(
            kernel.GetCurrentProcess(), address + done, ctypes.byref(out, done), step, ctypes.byref(read)
        ):
            break
        done += step
    return out.raw[:done]
