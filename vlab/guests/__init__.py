"""Guests: what vlab boots, where it comes from, and how it gets into memory.

>>> import vlab
>>> [guest.name for guest in vlab.guests.guests()][:2]
['hello', 'rings']

`catalogue` knows them by name, `fetch` gets those that are not bundled, `loaders` put one into memory.
"""

from __future__ import annotations

from vlab.guests.catalogue import Guest, add, find, guests, remove

__all__ = ["Guest", "add", "find", "guests", "remove"]
