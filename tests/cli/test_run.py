"""`vlab run`: the contract of its options and exit statuses, with a guest that is a Python generator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import FakeVM, Lab, Step
from vlab.vmm.stop import Stop, StopKind


def shell(vm: FakeVM) -> Iterator[Step]:
    yield "booting\r\n"
    while True:
        yield "# "
        yield None
        line = vm.take()
        yield line.replace("\r", "\r\n")
        if line == "exit\r":
            return
        yield f"you said {line.strip()}\r\n"


def test_the_console_of_the_guest_is_standard_output(lab: Lab) -> None:
    lab.guests["hello"] = lambda vm: iter(["Hello, \x1b[1mworld\r\n"])
    result = lab.command("run", "hello")
    assert result.status == 0
    assert result.out == "Hello, \x1b[1mworld\r\n"
    assert result.err == "vlab: the guest powered off\n"
    assert lab.machines[0].closed


def test_each_send_is_typed_with_enter_after_its_text_in_order(lab: Lab) -> None:
    lab.guests["shell"] = shell
    result = lab.command("run", "shell", "--send", "one", "--after", "# ", "--send", "exit", "--after", "# ")
    assert result.status == 0
    assert lab.machines[0].sent == ["one\r", "exit\r"]
    assert "you said one" in result.out


def test_expect_ends_the_run_with_status_0(lab: Lab) -> None:
    lab.guests["shell"] = shell
    result = lab.command("run", "shell", "--send", "hi", "--after", "# ", "--expect", "you said hi")
    assert (result.status, result.err) == (0, "")


def test_expect_that_does_not_come_in_time_is_status_3(lab: Lab) -> None:
    lab.guests["shell"] = shell
    result = lab.command("run", "shell", "--expect", "login:", "--timeout", "5")
    assert result.status == 3
    assert "vlab: the time ran out after 5 s, before 'login:' appeared" in result.err
    assert lab.machines[0].timeouts[0] == pytest.approx(5, abs=0.5)


def test_time_that_runs_out_without_expect_is_status_3_too(lab: Lab) -> None:
    lab.guests["shell"] = shell
    assert lab.command("run", "shell", "--timeout", "1").status == 3


def test_a_guest_that_ends_before_the_expected_text_has_failed(lab: Lab) -> None:
    lab.guests["hello"] = lambda vm: iter(["Hello\r\n"])
    result = lab.command("run", "hello", "--expect", "Goodbye")
    assert result.status == 1
    assert "the guest ended before 'Goodbye' appeared" in result.err


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        (Stop(StopKind.EXIT, "the guest reported success", 0), 0),
        (Stop(StopKind.EXIT, "the guest reported failure 5", 5), 1),
        (Stop(StopKind.POWERED_OFF, "the guest powered off"), 0),
        (Stop(StopKind.HALTED, "the guest halted for ever"), 0),
        (Stop(StopKind.RESET, "the guest asked for a reset"), 0),
        (Stop(StopKind.TRIPLE_FAULT, "triple fault\n#PF at 0x1000\n#GP\n#DF"), 1),
        (Stop(StopKind.FAILED, "the machine cannot go on"), 1),
    ],
    ids=lambda value: value.kind if isinstance(value, Stop) else "",
)
def test_how_the_guest_ends_is_the_exit_status(lab: Lab, stop: Stop, status: int) -> None:
    lab.guests["guest"] = lambda vm: iter([stop])
    result = lab.command("run", "guest")
    assert result.status == status
    # A failure tells its whole story, a normal end one line.
    assert result.err == (f"{stop.story}\n" if status else f"vlab: {stop.story}\n")


def test_the_story_starts_on_a_line_of_its_own(lab: Lab) -> None:
    lab.guests["guest"] = lambda vm: iter(["no newline", Stop(StopKind.TRIPLE_FAULT, "triple fault")])
    assert lab.command("run", "guest").err == "\ntriple fault\n"


def test_json_has_the_fields_of_the_contract(lab: Lab, tmp_path: Path) -> None:
    lab.guests["hello"] = lambda vm: iter(["Hello\r\n"])
    file = tmp_path / "run.json"
    assert lab.command("run", "hello", "--paging", "shadow", "--json", file).status == 0
    written = json.loads(file.read_text())
    assert written.pop("wall_seconds") >= 0
    assert written == {
        "guest": "hello",
        "monitor": "hardware",
        "paging": "shadow",
        "memory_bytes": 128 << 20,
        "clock": "deterministic",
        "exits": {"total": 44, "by_reason": {"IOIO": 40, "CPUID": 3, "HLT": 1}},
        "interrupts_delivered": 7,
        "blocks": 1234,
        "state_hash": "5eed",
        "stop_reason": "powered-off",
        "console": "Hello\r\n",
    }


def test_options_reach_the_machine(lab: Lab, tmp_path: Path) -> None:
    lab.guests["guest"] = lambda vm: iter(())
    initrd, disk, trace = tmp_path / "initrd", tmp_path / "disk", tmp_path / "run.vlabtrace"
    initrd.touch()
    disk.touch()
    options = ["--monitor", "none", "--paging", "direct", "--memory", "32M", "--append", "quiet"]
    files = ["--initrd", initrd, "--disk", disk, "--trace", trace]
    assert lab.command("run", "guest", *options, "--clock", "realtime", *files).status == 0
    assert lab.machines[0].options == {
        "monitor": "none",
        "paging": "direct",
        "memory": "32M",
        "append": "quiet",
        "clock": "realtime",
        "initrd": initrd,
        "disk": disk,
        "trace": "full",
    }
    assert trace.read_bytes() == b"trace"


def test_ctrl_c_ends_cleanly_and_still_writes_what_was_asked_for(lab: Lab, tmp_path: Path) -> None:
    def interrupted(vm: FakeVM) -> Iterator[Step]:
        yield "working"
        raise KeyboardInterrupt

    lab.guests["guest"] = interrupted
    file = tmp_path / "run.json"
    result = lab.command("run", "guest", "--json", file)
    assert (result.status, result.err) == (130, "\nvlab: interrupted\n")
    assert json.loads(file.read_text())["stop_reason"] == "interrupted"
    assert lab.machines[0].closed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch"], "vlab: guest: there is no guest named 'nosuch'"),
        ([], "GUEST"),
        (["g", "--send", "x"], "each --send needs an --after beside it; there are 1 --send and 0 --after"),
        (["g", "--expect", ""], "--after and --expect need a text to wait for, but one is empty"),
        (["g", "--timeout", "0"], "'--timeout': '0' is no time to wait; write seconds above 0, such as 30"),
        (["g", "--timeout", "soon"], "'soon' is no time to wait; write seconds above 0, such as 30"),
        (["g", "--timeout", "nan"], "'nan' is no time to wait"),
        (["g", "--initrd", "nosuch"], "'--initrd': there is no file 'nosuch'; check the path"),
        (["g", "--disk", "."], "'--disk': '.' is a directory; name a file in it"),
        (["g", "--disk", "x" * 5000], "cannot be looked at (File name too long); check the path"),
        (["g", "--trace", "x" * 5000], "cannot be looked at (File name too long); check the path"),
        (["g", "--json", "no/such.json"], "does not exist; create it first"),
        (["g", "--json", "."], "'.' is a directory; name a file in it"),
        (["g", "--clock", "sundial"], "'deterministic', 'realtime'"),
        (["g", "--frobnicate"], "--frobnicate"),
    ],
)
def test_unusable_input_is_one_line_and_status_2(lab: Lab, arguments: list[str], words: str) -> None:
    lab.guests["g"] = lambda vm: iter(())
    result = lab.command("run", *arguments)
    assert result.status == 2
    assert words in result.err
    assert result.err.startswith("vlab")
    assert result.err.count("\n") == 1
    assert result.out == ""
