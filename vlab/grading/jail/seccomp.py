"""A filter of system calls: what computing, reading the library and answering need, and no others.

seccomp(2) with a filter in classic BPF (linux/seccomp.h, linux/bpf_common.h), for x86-64 and AArch64. The
rest fails with EPERM; clone3 with ENOSYS, as C libraries expect of a kernel that does not have it. No new
process or thread, no socket, no signal to another, no way to open a file for writing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from typing import Final

from vlab.grading.jail.system import LINUX, prctl

PR_GET_SECCOMP, PR_SET_SECCOMP = 21, 22
MODE_FILTER: Final = 2

KILL_PROCESS, FAIL, ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000

#: BPF: load a word of what is looked at, jump if equal, jump if any bit is set, mask, return.
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06

#: Offsets in struct seccomp_data; each argument is 8 bytes, its lower half first.
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16

#: By ``platform.machine()``: AUDIT_ARCH_*, and the column of the table below.
MACHINES: Final = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}

#: Allowed as they are. The numbers are those of x86-64 and of AArch64, None where there is no such call.
FREE: Final[dict[str, tuple[int, int | None]]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, None), "fstat": (5, 80),
    "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291), "lseek": (8, 62), "pread64": (17, 67),
    "readv": (19, 65), "getdents64": (217, 61), "readlink": (89, None), "readlinkat": (267, 78),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439), "getcwd": (79, 17),
    "dup": (32, 23), "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "madvise": (28, 233),
    "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153),
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293), "membarrier": (324, 283),
    "getrandom": (318, 278), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "getcpu": (309, 168), "getrusage": (98, 165), "getrlimit": (97, 163), "sysinfo": (99, 179),
    "uname": (63, 160), "restart_syscall": (219, 128), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip

TGKILL, PRLIMIT, IOCTL, FCNTL = (234, 131), (302, 261), (16, 29), (72, 25)
OPEN, OPENAT, CLONE3 = (2, None), (257, 56), (435, 435)

#: ioctl: TCGETS, its successor, and FIOCLEX. fcntl: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC; its
#: F_SETOWN would send signals.
IOCTLS: Final = (0x5401, 0x802C_542A, 0x5451)
FCNTLS: Final = (0, 1, 2, 3, 1030)

#: Flags of open(2) that do more than read: O_WRONLY, O_RDWR, O_CREAT, O_TRUNC.
CHANGING: Final = 0o1 | 0o2 | 0o100 | 0o1000

Instruction = tuple[int, int, int, int]


def available() -> bool:
    """Whether this kernel takes filters, and the table knows this processor."""
    if not LINUX or platform.machine() not in MACHINES:
        return False
    try:
        prctl(PR_GET_SECCOMP)
    except OSError:
        return False
    return True


def _is(argument: int, *values: int) -> list[Instruction]:
    """Allow when the lower half of an argument is one of these."""
    block = [(LOAD, 0, 0, ARGUMENTS + 8 * argument)]
    for value in values:
        block += [(EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW)]
    return [*block, (RETURN, 0, 0, FAIL | errno.EPERM)]


def _has_none_of(argument: int, bits: int) -> list[Instruction]:
    """Allow when an argument has none of these bits."""
    return [
        (LOAD, 0, 0, ARGUMENTS + 8 * argument),
        (ANY_BIT, 0, 1, bits),
        (RETURN, 0, 0, FAIL | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
    ]


def _is_null(argument: int) -> list[Instruction]:
    """Allow when a pointer is null."""
    low = ARGUMENTS + 8 * argument
    return [
        (LOAD, 0, 0, low),
        (EQUAL, 0, 2, 0),
        (LOAD, 0, 0, low + 4),
        (EQUAL, 1, 0, 0),
        (RETURN, 0, 0, FAIL | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
    ]


def program(machine: str, pid: int) -> list[Instruction]:
    """Give the filter's instructions for a processor and a process."""
    architecture, column = MACHINES[machine]
    conditional: list[tuple[tuple[int, int | None], list[Instruction]]] = [
        (TGKILL, _is(0, pid)),
        (PRLIMIT, _is_null(2)),
        (IOCTL, _is(1, *IOCTLS)),
        (FCNTL, _is(1, *FCNTLS)),
        (OPEN, _has_none_of(1, CHANGING)),
        (OPENAT, _has_none_of(2, CHANGING)),
        (CLONE3, [(RETURN, 0, 0, FAIL | errno.ENOSYS)]),
    ]

    def instructions() -> Iterator[Instruction]:
        yield (LOAD, 0, 0, ARCHITECTURE)
        yield (EQUAL, 1, 0, architecture)
        yield (RETURN, 0, 0, KILL_PROCESS)
        yield (LOAD, 0, 0, NUMBER)
        for numbers, block in [*((each, [(RETURN, 0, 0, ALLOW)]) for each in FREE.values()), *conditional]:
            number = numbers[column]
            if number is not None:
                yield (EQUAL, 0, len(block), number)
                yield from block
        yield (RETURN, 0, 0, FAIL | errno.EPERM)

    return list(instructions())


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def restrict() -> None:
    """Hold this process to the filter, for good. It must have given up new privileges. Raises OSError."""
    instructions = program(platform.machine(), os.getpid())
    code = b"".join(struct.pack("=HBBI", *each) for each in instructions)
    prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(_Program(len(instructions), code)))
