"""What the tests in a browser work with."""

from __future__ import annotations

from vlab.bench.notebooks import SCREENS, Browser, Notebook, Server

__all__ = ["SCREENS", "Browser", "Notebook", "Server"]
