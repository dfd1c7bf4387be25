"""The start of a file in words."""

from __future__ import annotations

import pytest

from vlab.trace import beginning


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"", "is empty"),
        (b"\0\1", "starts with the bytes 00 01"),
        (b"PK\3\4", "starts with the bytes 50 4B 03 04 (PK..)"),
        (b"root:x:0:0", "starts with the bytes 72 6F 6F 74 3A 78 3A 30 (root:x:0)"),
    ],
)
def test_a_file_is_shown_in_hex_and_in_text_where_there_is_any(start: bytes, words: str) -> None:
    assert beginning.describe(start) == words
