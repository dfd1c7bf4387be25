"""What the buttons and keys of the timeline do: from a time in sight and a selection to the next ones."""

from __future__ import annotations

from vlab.errors import UnusableInput
from vlab.widgets.exits_data import Span

SHORTEST = 100
"""Nanoseconds that are in sight at least."""


def moved(action: str, sight: Span, selection: Span | None, whole: Span) -> tuple[Span, Span | None]:
    """Carry out an action of the toolbar or a key; an unknown one changes nothing."""
    quarter = max(sight.length // 4, 1)
    match action:
        case "earlier":
            return _shifted(sight, -quarter).within(whole, SHORTEST), selection
        case "later":
            return _shifted(sight, quarter).within(whole, SHORTEST), selection
        case "closer":
            return _scaled(sight, selection, -1).within(whole, SHORTEST), selection
        case "wider":
            return _scaled(sight, None, 1).within(whole, SHORTEST), selection
        case "all":
            return whole, selection
        case "clear":
            return sight, None
        case "zoom" if selection is not None:
            return selection.within(whole, SHORTEST), selection
        case "select":
            return sight, _middle(sight)
        case "select_earlier" | "select_later" | "narrower" | "broader":
            chosen = _resized(action, sight, selection or _middle(sight))
            return sight, chosen.within(whole, 1)
    return sight, selection


def _middle(sight: Span) -> Span:
    third = max(sight.length // 3, 1)
    return Span(sight.start + third, sight.start + 2 * third)


def _resized(action: str, sight: Span, chosen: Span) -> Span:
    step = max(sight.length // 40, 1)
    if action == "select_earlier":
        return _shifted(chosen, -step)
    if action == "select_later":
        return _shifted(chosen, step)
    return _scaled(chosen, None, 1 if action == "broader" else -1)


def _shifted(span: Span, by: int) -> Span:
    return Span(span.start + by, span.end + by)


def _scaled(span: Span, around: Span | None, powers: int) -> Span:
    """Make it twice as long, or half, about the middle of itself or of another span."""
    about = span if around is None else around
    middle = (about.start + about.end) // 2
    length = max(span.length * 2 if powers > 0 else span.length // 2, 2)
    return Span(middle - length // 2, middle - length // 2 + length)


def span_of(name: str, ends: object) -> Span:
    """Check a time given as (start, end) in virtual ns. Raises UnusableInput."""
    if isinstance(ends, tuple | list) and len(ends) == 2:
        start, end = ends
        if isinstance(start, int | float) and isinstance(end, int | float) and 0 <= start < end:
            return Span(int(start), max(int(end), int(start) + 1))
    raise UnusableInput(f"{name}: {ends!r} is no stretch of time; give (start, end) in virtual ns")
