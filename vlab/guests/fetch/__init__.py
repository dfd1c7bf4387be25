"""Getting guests that vlab may not or need not bundle."""

from __future__ import annotations

from vlab.errors import UnusableInput
from vlab.guests import catalogue, index
from vlab.guests.fetch.apt import FetchFailed, Progress
from vlab.guests.fetch.linux import fetch_linux

__all__ = ["FetchFailed", "Progress", "fetch"]

_FETCHERS = {"linux": fetch_linux}


def fetch(name: str, progress: Progress | None = None, *, again: bool = False) -> catalogue.Guest:
    """Fetch a guest into the cache, unless it is there and whole, and return it.

    `progress` is called with bytes done, bytes in total (0 when not known) and a label, often. `again`
    fetches even so, for a newer kernel. Raises UnusableInput for a guest that is not fetched, a cache that
    cannot be written to or a system without apt, and FetchFailed (status 1) when the network fails.
    """
    fetcher = _FETCHERS.get(name)
    if fetcher is None:
        known = ", ".join(_FETCHERS)
        raise UnusableInput(f"fetch: {name!r} is not a guest that is fetched; there is {known}")
    if again or index.fetched(name) is None:
        fetcher(progress or _silent)
    return catalogue.find(name)


def _silent(done: int, total: int, label: str) -> None:
    """Report nothing."""
