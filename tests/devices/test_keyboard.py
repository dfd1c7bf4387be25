"""The PS/2 keyboard and mouse as devices, and the tables of their keys."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.devices.twins import Bench, check_twin
from vlab.devices import ps2_keys
from vlab.devices.ps2_keyboard import Ps2Keyboard
from vlab.devices.ps2_mouse import Ps2Mouse
from vlab.errors import UnusableInput

SCAN_CODES_SET_1 = {
    "escape": "01", "1": "02", "0": "0b", "-": "0c", "=": "0d", "backspace": "0e", "tab": "0f", "q": "10",
    "p": "19", "[": "1a", "]": "1b", "enter": "1c", "left_ctrl": "1d", "a": "1e", "l": "26", ";": "27",
    "'": "28", "`": "29", "left_shift": "2a", "\\": "2b", "z": "2c", "m": "32", ",": "33", ".": "34",
    "/": "35", "right_shift": "36", "keypad_multiply": "37", "left_alt": "38", "space": "39",
    "caps_lock": "3a", "f1": "3b", "f7": "41", "f10": "44", "num_lock": "45", "scroll_lock": "46",
    "keypad_7": "47", "keypad_dot": "53", "less_than": "56", "f11": "57", "f12": "58", "up": "e048",
    "left": "e04b", "right": "e04d", "down": "e050", "home": "e047", "end": "e04f", "page_up": "e049",
    "page_down": "e051", "insert": "e052", "delete": "e053", "keypad_enter": "e01c",
    "keypad_divide": "e035", "right_ctrl": "e01d", "right_alt": "e038", "left_gui": "e05b",
    "menu": "e05d", "print_screen": "e02ae037", "pause": "e11d45e19dc5",
}  # fmt: skip


def keyboard(bench: Bench) -> Ps2Keyboard:
    return Ps2Keyboard(attention=bench.pin("attention"))


def mouse(bench: Bench) -> Ps2Mouse:
    return Ps2Mouse(attention=bench.pin("attention"))


def drain(device: Any) -> bytes:
    """Take all bytes that the device offers."""
    return bytes(iter(device.take, None))


def ask(device: Any, *command: int) -> str:
    """Send a command with its arguments and return everything that comes back, as hex."""
    for byte in command:
        device.receive(byte)
    return drain(device).hex()


# --- key tables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCAN_CODES_SET_1)
def test_a_key_has_its_code_in_set_1(name: str) -> None:
    device = Bench(keyboard).device
    device.receive(0xF0)
    device.receive(1)
    drain(device)
    device.press(name)
    assert drain(device).hex() == SCAN_CODES_SET_1[name]


def test_no_two_keys_send_the_same_code_and_the_translation_keeps_them_apart() -> None:
    assert len(set(ps2_keys.KEYS.values())) == len(ps2_keys.KEYS)
    translated = [ps2_keys.to_set_1(code) for code in range(0x80)]
    assert len(set(translated)) == len(translated)


def test_every_printable_ascii_character_can_be_typed() -> None:
    text = "".join(map(chr, range(0x20, 0x7F)))
    assert len(list(ps2_keys.strokes(text))) == 95


def test_answers_pass_the_translation_unchanged() -> None:
    assert [ps2_keys.to_set_1(byte) for byte in (0xFA, 0xFE, 0xAA, 0xEE, 0xAB)] == [
        0xFA,
        0xFE,
        0xAA,
        0xEE,
        0xAB,
    ]


# --- keyboard ---------------------------------------------------------------------------------------------


def test_a_typed_letter_is_pressed_and_released() -> None:
    bench = Bench(keyboard)
    bench.device.type_text("a")
    assert ("attention",) in bench.log
    assert drain(bench.device).hex() == "1cf01c"


def test_a_capital_is_typed_within_shift() -> None:
    device = Bench(keyboard).device
    device.type_text("A!")
    assert drain(device).hex() == "121cf01cf012" + "1216f016f012"


def test_newline_is_enter_and_a_control_character_is_ctrl_and_a_letter() -> None:
    device = Bench(keyboard).device
    device.type_text("\n\x03")
    assert drain(device).hex() == "5af05a" + "1421f021f014"


def test_a_chord_presses_in_order_and_releases_in_reverse() -> None:
    device = Bench(keyboard).device
    device.key("delete", "ctrl", "alt")
    assert drain(device).hex() == "1411e071e0f071f011f014"


def test_pause_has_no_release_and_print_screen_releases_both_its_codes() -> None:
    device = Bench(keyboard).device
    device.key("pause")
    assert drain(device).hex() == "e11477e1f014f077"
    device.key("print_screen")
    assert drain(device).hex() == "e012e07ce0f07ce0f012"


def test_a_character_that_the_layout_has_not_is_named_and_nothing_is_typed() -> None:
    device = Bench(keyboard).device
    with pytest.raises(
        UnusableInput, match=r"^text: character 'é' at place 3 is not on a US keyboard; type ASCII text$"
    ):
        device.type_text("café")
    assert device.waiting == 0


def test_an_unknown_key_is_named_and_nothing_is_pressed() -> None:
    device = Bench(keyboard).device
    with pytest.raises(UnusableInput, match=r"^key: the keyboard has no key 'any'; its keys are escape f1 "):
        device.key("any", "shift")
    assert device.waiting == 0


def test_the_identity_and_the_echo() -> None:
    device = Bench(keyboard).device
    assert ask(device, 0xF2) == "faab83"
    assert ask(device, 0xEE) == "ee"


def test_reset_acknowledges_and_reports_its_self_test() -> None:
    device = Bench(keyboard).device
    device.receive(0xF5)
    assert ask(device, 0xFF) == "faaa"
    device.type_text("a")
    assert drain(device)


def test_the_leds_and_the_typematic_rate_take_an_argument() -> None:
    device = Bench(keyboard).device
    assert ask(device, 0xED) == "fa"
    assert ask(device, 0x05) == "fa"
    assert repr(device.leds) == "Leds(0x5: CAPS_LOCK SCROLL_LOCK)"
    assert ask(device, 0xF3, 0x20) == "fafa"
    assert device.save().typematic == 0x20


def test_a_command_in_the_place_of_an_argument_is_a_command() -> None:
    device = Bench(keyboard).device
    assert ask(device, 0xED, 0xEE) == "faee"
    assert device.leds == 0


def test_the_scan_code_set_can_be_asked_for_and_changed_but_set_3_is_refused() -> None:
    device = Bench(keyboard).device
    assert ask(device, 0xF0, 0) == "fafa02"
    assert ask(device, 0xF0, 1) == "fafa"
    assert ask(device, 0xF0, 0) == "fafa01"
    device.key("up")
    assert drain(device).hex() == "e048e0c8"
    assert ask(device, 0xF0, 3) == "fafe"
    assert ask(device, 0xF6) == "fa"
    assert ask(device, 0xF0, 0) == "fafa02"


def test_unknown_commands_ask_for_a_resend_and_a_resend_repeats_the_last_byte() -> None:
    device = Bench(keyboard).device
    assert ask(device, 0xEF) == "fe"
    assert ask(device, 0xF2) == "faab83"
    assert ask(device, 0xFE) == "83"


def test_keys_wait_while_scanning_is_off() -> None:
    device = Bench(keyboard).device
    assert ask(device, 0xF5) == "fa"
    device.type_text("a")
    assert drain(device) == b""
    assert ask(device, 0xF4) == "fa1cf01c"


def test_an_answer_comes_after_the_key_event_under_way_and_before_the_next() -> None:
    device = Bench(keyboard).device
    device.key("up")
    assert device.take() == 0xE0
    device.receive(0xEE)
    assert drain(device).hex() == "75" + "ee" + "e0f075"


def test_no_key_comes_between_a_command_and_its_argument() -> None:
    device = Bench(keyboard).device
    device.receive(0xED)
    device.type_text("a")
    assert drain(device).hex() == "fa"
    assert ask(device, 0) == "fa1cf01c"


def test_answers_that_nobody_fetches_do_not_pile_up() -> None:
    device = Bench(keyboard).device
    for _ in range(1000):
        device.receive(0xEE)
    assert len(drain(device)) == 16


# --- mouse ------------------------------------------------------------------------------------------------


def test_the_mouse_resets_and_identifies_itself_as_a_plain_one() -> None:
    device = Bench(mouse).device
    assert ask(device, 0xFF) == "faaa00"
    assert ask(device, 0xF2) == "fa00"


def test_the_status_shows_modes_resolution_and_rate() -> None:
    device = Bench(mouse).device
    assert ask(device, 0xE9) == "fa000264"
    for byte in (0xF3, 200, 0xE8, 3, 0xE7, 0xF4):
        assert ask(device, byte) == "fa"
    assert ask(device, 0xE9) == "fa3003c8"
    assert ask(device, 0xF6) == "fa"
    assert ask(device, 0xE9) == "fa000264"


def test_movement_is_reported_once_enabled_and_in_pieces_that_fit() -> None:
    device = Bench(mouse).device
    device.move(3, -2, buttons=1)
    assert drain(device) == b""
    device.receive(0xF4)
    assert drain(device).hex() == "fa" + "2903fe"
    device.move(300, 0)
    assert drain(device).hex() == "08ff00" + "082d00"


def test_remote_mode_reports_only_when_asked() -> None:
    device = Bench(mouse).device
    ask(device, 0xF4)
    ask(device, 0xF0)
    device.move(1, 1)
    assert drain(device) == b""
    assert ask(device, 0xEB) == "fa080101"


def test_wrap_mode_echoes_until_it_is_reset() -> None:
    device = Bench(mouse).device
    assert ask(device, 0xEE, 0x55, 0xF4) == "fa55f4"
    assert ask(device, 0xEC) == "fa"
    assert ask(device, 0x55) == "fe"


# --- properties -------------------------------------------------------------------------------------------

TAKES = st.just(("take",))
BYTES = st.tuples(
    st.just("receive"), st.one_of(st.integers(0xE6, 0xFF), st.sampled_from([0, 1, 2, 3]), st.integers(0, 255))
)
TEXTS = st.tuples(st.just("type_text"), st.text("aB1 \n!\x03", max_size=3))
CHORDS = st.tuples(st.just("key"), st.sampled_from(sorted(ps2_keys.KEYS)))
MOVES = st.tuples(st.just("move"), st.integers(-600, 600), st.integers(-600, 600), st.integers(0, 9))


@given(program=st.lists(st.one_of(TAKES, BYTES, TEXTS, CHORDS), max_size=60), cut=st.integers(0, 60))
def test_any_use_of_the_keyboard_raises_nothing_and_a_snapshot_within_it_is_invisible(
    program: Any, cut: int
) -> None:
    check_twin(keyboard, program, cut)


@given(program=st.lists(st.one_of(TAKES, BYTES, MOVES), max_size=60), cut=st.integers(0, 60))
def test_any_use_of_the_mouse_raises_nothing_and_a_snapshot_within_it_is_invisible(
    program: Any, cut: int
) -> None:
    check_twin(mouse, program, cut)
