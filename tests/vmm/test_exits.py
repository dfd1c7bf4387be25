from __future__ import annotations

import dataclasses

import pytest

from vlab.isa.sensitive import Sensitive
from vlab.isa.svm_exits import SvmExit
from vlab.vmm import exits
from vlab.vmm.exits import CODE, EXIT_TYPES, REASONS, PortAccess
from vlab.vmm.svm_decode import DECODERS


def test_every_reason_has_one_code_and_one_name() -> None:
    assert len(REASONS) == len(set(REASONS)) == len(EXIT_TYPES) == len(CODE)
    assert [EXIT_TYPES[code] for code in CODE.values()] == list(CODE)


@pytest.mark.parametrize("kind", EXIT_TYPES, ids=lambda kind: kind.__name__)
def test_an_exit_is_frozen_and_told_in_two_numbers(kind: type[exits.Exit]) -> None:
    fields = dataclasses.fields(kind)
    assert len(fields) <= 2
    exit_ = kind(*(0x10 + n for n in range(len(fields))))
    numbers = [*(0x10 + n for n in range(len(fields))), 0, 0]
    assert exits.qualification(exit_) == tuple(numbers[:2])
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError, AttributeError)):
        exit_.other = 1  # type: ignore[union-attr,misc]


@pytest.mark.parametrize("reason", REASONS)
def test_a_record_of_each_reason_can_be_described(reason: str) -> None:
    described = exits.describe(reason, 3, 0x20)
    assert all(isinstance(value, str | int) for value in described.values())
    kind = EXIT_TYPES[REASONS.index(reason)]
    if kind not in (
        exits.PortAccess,
        exits.ExceptionExit,
        exits.SensitiveInstruction,
        exits.Hypercall,
        exits.CallOut,
    ):
        assert list(described) == [field.name for field in dataclasses.fields(kind)]


def test_a_port_access_is_told_with_port_size_direction_and_value() -> None:
    access = PortAccess(0x3F8 | 1 << 16 | 1 << 24, 0x41)
    assert (access.port, access.size, access.output) == (0x3F8, 1, True)
    assert not PortAccess(0xCF8 | 4 << 16, 0).output
    assert exits.describe("IOIO", access.info, access.value) == {
        "port": "0x3f8",
        "size": 1,
        "direction": "out",
        "value": "0x41",
    }


def test_an_exception_is_told_by_its_name() -> None:
    assert exits.describe("EXCEPTION", 13, 0x18) == {"vector": "#GP", "error_code": "0x18"}


def test_a_trap_is_told_by_its_instruction() -> None:
    assert exits.describe("TRAP", Sensitive.MOV_CR, 0) == {"instruction": "MOV CRn"}
    assert exits.describe("TRAP", Sensitive.CLI, 0) == {"instruction": "CLI"}


def test_every_exit_code_of_the_processor_becomes_an_exit() -> None:
    assert set(SvmExit) <= set(DECODERS)
