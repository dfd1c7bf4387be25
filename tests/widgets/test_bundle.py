"""One module of several, and one style sheet: what goes to the browser in one piece."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vlab.widgets import bundle


@pytest.fixture
def static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bundle, "STATIC", tmp_path)
    bundle.module.cache_clear()
    yield tmp_path
    bundle.module.cache_clear()


def test_what_is_imported_comes_first_and_once(static: Path) -> None:
    (static / "low.js").write_text("export const low = 1;\n")
    (static / "left.js").write_text(
        'import { low } from "./low.js";\nexport function left() { return low; }\n'
    )
    (static / "right.js").write_text('import { low } from "./low.js";\nexport class Right {}\n')
    (static / "top.js").write_text(
        'import { left } from "./left.js";\nimport { Right } from "./right.js";\n'
        "export default { left, Right };\n"
    )
    text = bundle.module("top.js")
    assert text.count("const low = 1;") == 1
    assert text.index("const low") < text.index("function left") < text.index("export default")
    assert not re.search(r"\bimport\b", text)
    assert text.count("export") == 1


def test_modules_that_import_each_other_are_refused(static: Path) -> None:
    (static / "a.js").write_text('import { b } from "./b.js";\n')
    (static / "b.js").write_text('import { a } from "./a.js";\n')
    with pytest.raises(ValueError, match=r"a\.js -> b\.js -> a\.js: these modules import each other"):
        bundle.module("a.js")


@pytest.mark.parametrize(
    "line", ['import x from "https://elsewhere/x.js";', 'const x = await import("./x.js");']
)
def test_an_import_of_another_form_is_refused_with_its_line(static: Path, line: str) -> None:
    (static / "a.js").write_text(f"const one = 1;\n{line}\n")
    with pytest.raises(ValueError, match=r"a\.js, near line 2: write imports as"):
        bundle.module("a.js")


def test_every_module_of_ours_can_be_bundled_and_asks_nobody_else() -> None:
    for path in bundle.STATIC.glob("*.js"):
        text = re.sub(r"/\*!.*?\*/", "", bundle.module(path.name), flags=re.DOTALL)  # but for licences
        assert not re.search(r"https?://(?!www\.w3\.org/)", text), path.name


def test_every_view_keeps_jupyterlabs_shortcuts_out() -> None:
    for path in bundle.STATIC.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        if "export default" in text:
            assert "view(el," in text or "data-lm-suppress-shortcuts" in text, path.name
