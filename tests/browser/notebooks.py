"""What the tests in a browser work with."""

from __future__ import annotations

from vlab.bench.notebooks import SCREENS, Browser, Notebook, Server

__all__ = ["CELL_COUNT", "SCREENS", "Browser", "Notebook", "Server"]

CELL_COUNT = "window.jupyterapp.shell.currentWidget.content.model.cells.length"
"""Cells of the notebook, shown or not."""
