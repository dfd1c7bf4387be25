"""The directive ``{recorded} GUEST``: a run that is recorded at the build and scrubbed in the page.

The page holds the trace, and what was to be seen of the guest after each exit, as base64; the player is one
classic script, since a browser loads no module from a page on disk. So it works from file:// and without a
server. Without scripts a picture of the last exit remains.
"""

from __future__ import annotations

import base64
import html
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx

    from vlab.session import VM

SCRIPT, STYLE = "recorded.js", "recorded.css"
MOST: Final = 1000
"""Exits of one recording: each is stepped over at the build, and its registers go into the page."""
PATIENCE: Final = 60.0
VIEWS: Final = ("inspector", "rings")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded run. places: what there is to see of the guest, see `vlab.widgets.place`, at each stop."""

    trace: bytes
    places: list[dict[str, Any]]
    picture: str
    told: str


def record(guest: str, monitor: str, paging: str | None, append: str | None, until: str | None) -> Recording:
    """Run a guest exit by exit. Raises ValueError for a run of more than MOST exits."""
    from vlab.session import VM
    from vlab.trace.file import dump, loads
    from vlab.widgets.inspector import Inspector

    with VM(guest, monitor=monitor, paging=paging, append=append, trace="full") as vm:
        places = _step(vm, until)
        metadata = {
            "guest": vm.guest.name, "monitor": vm.monitor, "paging": vm.paging, "clock": vm.clock,
            "memory_bytes": vm.memory_bytes,
        }  # fmt: skip
        trace = dump(vm.exits, metadata)
        told = (
            f"{vm.guest.name} under the monitor {vm.monitor}, paging {vm.paging}: {vm.exits.total:,} exits in"
            f" {vm.virtual_time_ns / 1e6:,.3f} ms of virtual time"
        )
    return Recording(trace, places, Inspector(loads(trace)).picture(), told)


def _step(vm: VM, until: str | None) -> list[dict[str, Any]]:
    from vlab.widgets import place

    state = vm.registers()
    places = [place.describe(vm, state, None, None, "")]
    while True:
        before = vm.exits.total, state
        stop = vm.run(exits=1, timeout=PATIENCE)
        if vm.exits.total > MOST:
            raise ValueError(f"{vm.guest.name}: more than {MOST:,} exits are too many for a page")
        state = vm.registers()
        event = vm.exits[-1] if vm.exits.total else None
        words = str(stop).partition("\n")[0] if stop.final else ""
        places.append(place.describe(vm, state, event, before, words))
        if stop.final or vm.exits.total == before[0] or (until and until in vm.console.text):
            return places


class Recorded(SphinxDirective):
    """Run a guest and show what happened."""

    required_arguments = 1
    option_spec: ClassVar = dict.fromkeys(
        ("monitor", "paging", "append", "until", "at", "views"), directives.unchanged
    )

    def run(self) -> list[nodes.Node]:
        """Record, and put the recording into the page."""
        options = self.options
        made = record(
            self.arguments[0], options.get("monitor", "hardware"), options.get("paging"),
            options.get("append"), options.get("until"),
        )  # fmt: skip
        views = options.get("views", "inspector").split()
        if not set(views) <= set(VIEWS):
            raise self.error(f"views: {' '.join(views)!r}; choose from {', '.join(VIEWS)}")
        pages: set[str] = self.env.__dict__.setdefault("recorded_pages", set())
        pages.add(self.env.docname)
        name = f"{self.arguments[0]}-{options.get('monitor', 'hardware')}"
        return [nodes.raw("", _markup(made, name, int(options.get("at", 1)), views), format="html")]


def _markup(made: Recording, name: str, at: int, views: list[str]) -> str:
    trace = base64.b64encode(made.trace).decode()
    places = base64.b64encode(zlib.compress(json.dumps(made.places).encode(), 9)).decode()
    file = html.escape(f"{name}.vlabtrace")
    return (
        f'<figure class="vlab-recording" data-at="{at}" data-views="{" ".join(views)}">\n'
        f"<figcaption>Recorded: {html.escape(made.told)}."
        f' <a download="{file}" href="data:application/vnd.vlab.trace;base64,{trace}">'
        f"Download {file}</a></figcaption>\n"
        f'<div class="vlab-stage">{made.picture}</div>\n'
        f'<script type="text/plain" class="vlab-trace">{trace}</script>\n'
        f'<script type="text/plain" class="vlab-places">{places}</script>\n</figure>'
    )


# --- the player --------------------------------------------------------------------------------------------


def player() -> str:
    """Give the script: the notebook's own views, what a kernel would tell them, and what joins both."""
    from vlab.widgets import bundle, kernelless

    made = ", ".join(f"{view}: (() => {{\n{_function(bundle.module(f'{view}.js'))}\n}})()" for view in VIEWS)
    facts = json.dumps(kernelless.facts(), ensure_ascii=False, sort_keys=True).replace("</", "<\\/")
    own = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    return f'"use strict";\n(() => {{\nconst views = {{ {made} }};\nconst facts = {facts};\n{own}\n}})();\n'


def _function(module: str) -> str:
    """Turn a module into the body of a function that returns its default export."""
    body, export, rest = module.partition("export default ")
    if not export or "export " in rest:
        raise ValueError("a view's module must end in one default export")
    return f"{body}return {rest}"


def _prepare(app: Sphinx) -> None:
    from vlab.widgets import bundle

    folder = Path(app.doctreedir) / "recorded"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCRIPT).write_text(player(), encoding="utf-8")
    (folder / STYLE).write_text(bundle.style("inspector.css", "rings.css"), encoding="utf-8")
    app.config.html_static_path.append(str(folder))


def _add_script(app: Sphinx, page: str, _template: str, _context: dict[str, Any], _tree: object) -> None:
    if page in app.env.__dict__.get("recorded_pages", ()):
        app.add_css_file(STYLE)
        app.add_js_file(SCRIPT, loading_method="defer")


def _merge(_app: Sphinx, env: Any, _names: object, other: Any) -> None:
    env.__dict__.setdefault("recorded_pages", set()).update(other.__dict__.get("recorded_pages", ()))


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directive."""
    app.add_directive("recorded", Recorded)
    app.connect("builder-inited", _prepare)
    app.connect("html-page-context", _add_script)
    app.connect("env-merge-info", _merge)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
