"""What views of recorded traces need beside the trace, where no kernel can tell it: in JupyterLab's viewer.

``python -m vlab.widgets.kernelless`` prints it as JSON for the extension, whose build calls this.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, Final

from vlab.session import VM
from vlab.trace.events import MODES
from vlab.widgets import qualification, techniques
from vlab.widgets.rings import Rings

_STYLE: Final = re.compile(r"<style>.*?</style>", re.DOTALL)


def facts() -> dict[str, Any]:
    """Give the tables by which qualifications are decoded, and words and drawing of each monitor."""
    return {
        "tables": qualification.tables(),
        "modes": [mode.value for mode in MODES],
        "monitors": {name: _monitor(name) for name in techniques.TECHNIQUES},
    }


def _monitor(name: str) -> dict[str, Any]:
    with VM("hello", trace="full") as vm:
        view = Rings(vm.exits, monitor=name)  # no exit yet: the drawing with nothing marked in it
    drawing = _STYLE.sub("", view.drawing).replace(f" {view.now}", "")
    return {"sections": techniques.sections(name), "technique": view.technique, "drawing": drawing}


if __name__ == "__main__":
    json.dump(facts(), sys.stdout, ensure_ascii=False, indent=1, sort_keys=True)
    print()
