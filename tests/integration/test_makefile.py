"""``make install`` and ``make build``: one-line errors, and the warning about missing bytecode."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local.template import ROOT


def install(folder: Path, requirements: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["tests/local/virtualenv.sh", folder, requirements],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )


def test_missing_python_prints_one_line(tmp_path: Path) -> None:
    result = install(tmp_path / "venv", tmp_path / "requirements.txt", PYTHON="no-such-python")
    assert result.returncode == 1
    assert result.stderr.startswith("error: Python 3.11 or newer is needed, not found as no-such-python;")
    assert len((result.stdout + result.stderr).splitlines()) == 1


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_python_without_venv_prints_one_line_and_installs_nothing(tmp_path: Path, missing: str) -> None:
    """Debian without python3-venv, also for root."""
    tools = tmp_path / "tools"
    tools.mkdir()
    called = tmp_path / "called"
    (tools / "apt-get").write_text(f"#!/bin/sh\necho apt-get >> {called}\n")
    # Python cannot import a module that is None in sys.modules.
    lacking = f"import sys; sys.modules[{missing!r}] = None; exec(sys.argv.pop(1))"
    (tools / "lacking-python").write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "{lacking}" "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    result = install(tmp_path / "venv", tmp_path / "requirements.txt", PYTHON="lacking-python", PATH=path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "error: lacking-python cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv\n"
    )
    assert not called.exists()
    assert not (tmp_path / "venv").exists()


def test_failed_install_prints_one_line_and_can_be_repeated(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("./no-such-package\n")
    result = install(tmp_path / "venv", requirements)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "failed: ERROR: Invalid requirement: './no-such-package'" in result.stderr
    assert not (tmp_path / "venv" / "ready").exists()
    requirements.write_text("")
    assert install(tmp_path / "venv", requirements).returncode == 0
    assert (tmp_path / "venv" / "ready").exists()


@pytest.mark.parametrize("works", [True, False], ids=["python3.13", "no python3.13"])
def test_build_without_python3_13_ends_with_a_warning(checkout: Path, *, works: bool) -> None:
    for name in ("Makefile", "samconfig.toml"):
        shutil.copy(ROOT / name, checkout)
    tools = checkout / "app" / "bin"
    tools.mkdir(parents=True)
    for name, python in (("python3", sys.executable), ("python3.13", sys.executable if works else "false")):
        (tools / name).write_text(f'#!/bin/sh\nexec {python} "$@"\n')
        (tools / name).chmod(0o755)
    installed = ("app/ready", ".tools/sam/ready", ".tools/ministack/ready", "functions/docs/swagger-ui/LICENSE")
    command = ["make", "build", "APP=app", *(f"--old-file={file}" for file in installed)]
    build = subprocess.run(command, cwd=checkout, check=False, capture_output=True, text=True)
    assert build.returncode == 0, build.stderr
    warned = build.stderr.splitlines()[-1].startswith("warning: ")
    assert warned != works


def test_make_build_ends_with_the_warning_about_bytecode(tmp_path: Path) -> None:
    sam = tmp_path / ".tools/sam/bin/sam"
    sam.parent.mkdir(parents=True)
    sam.write_text("#!/bin/sh\nmkdir -p .aws-sam/build/ScoringLayer\necho Build Succeeded\n", encoding="utf-8")
    sam.chmod(0o755)
    environments = (".venv/ready", ".tools/sam/ready", ".tools/ministack/ready", "functions/docs/swagger-ui/LICENSE")
    command = ["make", f"--file={ROOT / 'Makefile'}", *(f"--old-file={name}" for name in environments), "build"]
    result = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    warning = "warning: python3.13 is not on the PATH; the layer works, but is compiled at every cold start"
    assert (result.stdout, result.stderr) == ("Build Succeeded\n", f"{warning}\n")
    # A plain `sam build` prints the same warning.
    recipe = subprocess.run(
        ["make", "-n", "build-ScoringLayer"],
        cwd=ROOT / "functions" / "layer",
        check=True,
        capture_output=True,
        text=True,
    )
    assert f'echo "{warning}"' in recipe.stdout
