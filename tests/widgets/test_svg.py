"""Drawings are well-formed, escaped, and readable without a style sheet of the page's."""

from __future__ import annotations

from xml.etree import ElementTree

from vlab.widgets import svg


def test_a_document_is_well_formed_and_says_what_it_is() -> None:
    picture = svg.document(100, 50.5, "A <box> & its label", svg.box(0, 0, 10, 10, svg.title("a & b")))
    root = ElementTree.fromstring(picture)
    assert root.attrib["aria-label"] == "A <box> & its label"
    assert root.attrib["viewBox"] == "0 0 100 50.5"
    assert root.find(f".//{{{svg.NAMESPACE}}}title").text == "a & b"
    assert "--vlab-ink" in root.find(f"{{{svg.NAMESPACE}}}style").text


def test_names_of_attributes_are_xmls_and_none_leaves_one_out() -> None:
    text = svg.text(1, 2, "words", class_="faint", text_anchor="end", id=None)
    assert text.attrib == {"x": "1", "y": "2", "class": "faint", "text-anchor": "end"}


def test_words_between_elements_stay_where_they_are() -> None:
    node = svg.node("text", "a", svg.node("tspan", "b"), "c")
    assert ElementTree.tostring(node, encoding="unicode") == "<text>a<tspan>b</tspan>c</text>"
