"""Binder: what its files say, and the environment they make, built here from the same pins."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs_site.pages import ROOT, blocks, text_of

BINDER = ROOT / "binder"
MOST_MEMORY = 2 << 30
PIN = re.compile(r"^      - ([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)$", re.MULTILINE)


def environment() -> str:
    return (BINDER / "environment.yml").read_text(encoding="utf-8")


def pins() -> list[str]:
    return [f"{name}=={version}" for name, version in PIN.findall(environment())]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_python_is_named_since_the_default_there_is_too_old() -> None:
    assert re.search(r"^  - python=3\.12$", environment(), re.MULTILINE)


def test_every_package_is_pinned_and_none_is_vlab_itself() -> None:
    _, _, below = environment().partition("  - pip:\n")
    lines = [line for line in below.splitlines() if line.strip()]
    assert len(lines) == len(pins()) > 50
    assert "vlab" not in {canonical(pin.partition("==")[0]) for pin in pins()}


def test_the_environment_names_no_place_to_fetch_from() -> None:
    for file in BINDER.iterdir():
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"https?://|index-url|find-links|git\+|@ file", text), file.name


def test_everything_that_vlab_asks_for_is_pinned_within_its_range() -> None:
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {canonical(name): version for name, version in PIN.findall(environment())}
    for line in [*project["dependencies"], *project["optional-dependencies"]["lab"]]:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"python_version": "3.12"}):
            version = pinned.get(canonical(wanted.name))
            assert version, f"{wanted.name} is not in binder/environment.yml"
            assert wanted.specifier.contains(version), (
                f"{wanted.name}=={version} is outside {wanted.specifier}"
            )


def test_scripts_can_be_run_and_start_hands_over() -> None:
    for name in ("postBuild", "start"):
        file = BINDER / name
        assert os.access(file, os.X_OK), name
        assert file.read_text().startswith("#!/bin/bash\n")
        assert subprocess.run(["bash", "-n", str(file)]).returncode == 0
    assert (BINDER / "start").read_text().rstrip().endswith('exec "$@"')
    assert "python -m pip install --no-deps" in (BINDER / "postBuild").read_text()


def test_start_opens_lesson_00_and_keeps_nobody_out(tmp_path: Path) -> None:
    lesson = tmp_path / "labs" / "00_first" / "00_first.ipynb"
    lesson.parent.mkdir(parents=True)
    lesson.write_text("{}")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "jupyter").write_text(f'#!/bin/sh\ncp "$4" {tmp_path}/workspace.json\nexit 1\n')
    (tools / "jupyter").chmod(0o755)
    line = ["bash", str(BINDER / "start"), "echo", "handed", "over"]
    path = f"{tools}:{os.environ['PATH']}"
    said = subprocess.run(line, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert said.returncode == 0
    assert said.stdout.splitlines()[-1] == "handed over"
    workspace = json.loads((tmp_path / "workspace.json").read_text())
    assert workspace["metadata"] == {"id": "default"}
    opened = workspace["data"]["layout-restorer:data"]["main"]["current"]
    assert workspace["data"][opened]["data"]["path"] == "labs/00_first/00_first.ipynb"


def blocks_of(document: str, kind: str) -> list[str]:
    return [block.text for block in blocks(text_of(document)) if block.kind == kind]


def test_the_recipe_of_the_image_takes_the_same_pins_and_copies_what_is_there(tmp_path: Path) -> None:
    (recipe,) = blocks_of("docs/teaching/jupyterhub.md", "dockerfile")
    for copied in re.findall(r"^COPY (\S+) ", recipe, re.MULTILINE):
        assert (ROOT / copied).exists()
    command = re.search(r"^RUN (sed .*?) environment\.yml", recipe, re.MULTILINE)
    assert command is not None
    shutil.copy(BINDER / "environment.yml", tmp_path)
    said = subprocess.run(
        ["sh", "-c", f"{command[1]} environment.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert said.stdout.split() == pins()


def test_the_values_of_the_chart_are_yaml_and_stay_within_what_was_measured() -> None:
    yaml = pytest.importorskip("yaml")
    (values,) = blocks_of("docs/teaching/jupyterhub.md", "yaml")
    single = yaml.safe_load(values)["singleuser"]
    assert single["memory"] == {"guarantee": "512M", "limit": "2G"}
    page = text_of("docs/teaching/jupyterhub.md")
    server, linux = (
        int(re.search(rf"^\| {start}[^|]*\| (\d+) ", page, re.MULTILINE)[1])
        for start in ("JupyterLab", "Linux with")
    )
    assert f"{server} + {linux} = {server + linux} MiB" in page
    assert (server + linux) * 1.048576 < 512
    for students in (30, 300, 3000):
        row = re.search(rf"^\| {students:,} \| ([\d,]+) GiB \| (\d+) \| (\d+) s ", page, re.MULTILINE)
        assert row is not None
        assert abs(int(row[1].replace(",", "")) - students * (server + linux) / 1024) < 1
        assert abs(int(row[3]) - students * 9.3 / int(row[2])) < 1


# --- the environment itself --------------------------------------------------------------------------------


def measuring() -> ModuleType:
    file = ROOT / "docs" / "tools" / "measure_student.py"
    spec = importlib.util.spec_from_file_location("measure_student", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure_student"] = module
    spec.loader.exec_module(module)
    return module


def python() -> str:
    """Give a Python 3.12, as Binder has, or else the one that runs this."""
    found = shutil.which("python3.12")
    works = found and subprocess.run([found, "-c", "import venv"], capture_output=True).returncode == 0
    return found if found and works else sys.executable


def call(*line: str, cwd: Path | None = None, timeout: float = 900) -> str:
    done = subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{' '.join(line[:4])}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout


def lesson(folder: Path) -> Path:
    """Give lesson 00, in a folder of its own."""
    (found,) = (ROOT / "labs").glob("00_*/*.ipynb")
    shutil.copytree(found.parent, folder / found.parent.name)
    return folder / found.parent.name / found.name


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build what Binder builds, in a virtual environment; conda's part is Python alone."""
    folder = tmp_path_factory.mktemp("binder")
    call(python(), "-m", "venv", str(folder / "venv"))
    bin_ = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(bin_ / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wanted = folder / "pins.txt"
    wanted.write_text("\n".join(pins()) + "\n")
    fetched = subprocess.run(
        [*pip, "install", "--no-compile", "--only-binary=:all:", "--requirement", str(wanted)],
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    if re.search(
        r"NewConnectionError|ConnectTimeout|Name or service not known|getaddrinfo failed", fetched.stderr
    ):
        pytest.skip("no package index can be reached from here")
    assert fetched.returncode == 0, fetched.stderr[-3000:]
    source = folder / "source"
    skipped = shutil.ignore_patterns(
        ".git", ".venv", "build", "node_modules", "__pycache__", ".*_cache", "tests"
    )
    shutil.copytree(ROOT, source, ignore=skipped)
    call(*pip, "install", str(source), "--no-deps", "--no-cache-dir")
    call(*pip, "check")
    return bin_


@pytest.mark.slow
@pytest.mark.network
def test_lesson_00_runs_in_the_environment_of_binder_within_2_gb(built: Path, tmp_path: Path) -> None:
    notebook = lesson(tmp_path)
    line = [
        str(built / "python"), "-m", "jupyter", "execute", "--timeout=300",
        f"--output={tmp_path / 'done.ipynb'}", str(notebook),
    ]  # fmt: skip
    own = {"PATH": f"{built}{os.pathsep}{os.environ['PATH']}", "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "JUPYTER_PATH")}
    tool = measuring()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(line, cwd=notebook.parent, env=clean | own, stdout=log, stderr=log)
        most = 0
        while process.poll() is None:
            most = max(most, tool.memory(process.pid, "Rss"))
            time.sleep(0.05)
    assert process.returncode == 0, (tmp_path / "log").read_text()[-4000:]
    assert 50 << 20 < most < MOST_MEMORY, f"{most / (1 << 20):,.0f} MiB"
    listed = subprocess.run([*line[:3], "labextension", "list"], capture_output=True, text=True)
    assert re.search(r"\bvlab\b.*enabled", listed.stdout + listed.stderr)
    assert "version" in call(str(built / "vlab"), "--version")
    print(f"most memory: {most / (1 << 20):,.0f} MiB")
