"""The errors that vlab raises on purpose.

Everything here is a user's mistake or a limit of this computer, never a guest's misbehaviour: a guest that
faults gets its fault injected, or stops the machine with a reason that tells the story.

A message is one line in three parts: it names the argument, shows the value, and says what to do about it::

    memory: '12Q' is not a size; write a number of bytes with an optional K, M or G, such as 128M
    guest: there is no guest named 'linx'; did you mean linux? `vlab guests list` shows them all

It starts in lower case, has no full stop at its end, and never speaks of vlab's own internals. The tests
compare the text, so a message is part of the public interface.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = ["TraceUnavailable", "UnusableImage", "UnusableInput", "VlabError"]


class VlabError(Exception):
    """The root of vlab's errors: one line for the user, and the exit status that it means."""

    exit_status: ClassVar[int] = 1


class UnusableInput(VlabError):
    """An argument, a file or a setting that cannot be used as it is. The command line exits with status 2."""

    exit_status: ClassVar[int] = 2


class UnusableImage(UnusableInput):
    """A guest image that no loader accepts: the message says what it starts with and what is accepted."""


class TraceUnavailable(VlabError):
    """A question that the trace cannot answer: its level was too low, or the events were dropped."""
