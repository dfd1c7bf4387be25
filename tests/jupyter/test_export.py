"""An exported notebook has pictures where the live views were."""

from __future__ import annotations

import base64
import re

import pytest

pytest.importorskip("nbconvert")

import nbformat
from nbconvert.exporters import MarkdownExporter, get_exporter

import vlab
from vlab.jupyter.export import WIDGET, keep_pictures


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    """One cell that displays a VM which has run."""
    from vlab.widgets.dashboard import Dashboard

    with vlab.VM("hello") as vm:
        vm.run(timeout=20)
        data, _ = Dashboard(vm)._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data=data)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("vm", outputs=[output])])


def test_html_has_the_picture_of_a_view(notebook: nbformat.NotebookNode) -> None:
    html, _ = get_exporter("vlab_html")().from_notebook_node(notebook)
    pictures = re.findall('data:image/svg[+]xml;base64,([^"]*)', html)
    assert any(b"hello from a boot sector" in base64.b64decode(picture) for picture in pictures)


def test_a_widget_with_nothing_to_stand_for_it_stays_and_the_notebook_is_not_changed() -> None:
    alone = nbformat.v4.new_output("display_data", data={WIDGET: {"model_id": "none"}})
    both = nbformat.v4.new_output("display_data", data={WIDGET: {}, "text/plain": "words"})
    cell = nbformat.v4.new_code_cell("vm", outputs=[alone, both])
    whole = nbformat.v4.new_notebook(cells=[cell])
    outputs = keep_pictures(whole).cells[0].outputs
    assert [list(output.data) for output in outputs] == [[WIDGET], ["text/plain"]]
    assert WIDGET in whole.cells[0].outputs[1].data


def test_markdown_has_the_picture_by_itself(notebook: nbformat.NotebookNode) -> None:
    _, resources = MarkdownExporter().from_notebook_node(notebook)
    assert any(
        name.endswith(".svg") and b"vlab-picture" in data for name, data in resources["outputs"].items()
    )
