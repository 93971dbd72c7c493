"""The built wheel, installed apart from the checkout: a deploy job needs nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.postgres_binaries import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True)
    [built] = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_the_chain_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    rooms = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert rooms == {"app"}
    for needed in ("app/py.typed", "app/catalog/head.json", "app/chain/alembic.ini", "app/chain/alembic/env.py"):
        assert needed in names
    revisions = {path.name for path in (ROOT / "alembic" / "versions").glob("*.py")}
    assert {Path(name).name for name in names if name.startswith("app/chain/alembic/versions/")} == revisions
    assert not [name for name in names if name.endswith((".gz", ".jsonl", ".pyc"))]


def test_the_installed_wheel_migrates_and_verifies_without_a_checkout(
    wheel: Path, tmp_path: Path, database_url: str
) -> None:
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    zipfile.ZipFile(wheel).extractall(installed)  # what pip does with a wheel of pure Python, scripts aside
    start = (
        f"import sys; place = {str(installed)!r}; sys.path[:0] = [place];"
        "import app; assert app.__file__.startswith(place);"
        "from app.cli import main; main()"
    )
    for arguments, expected in ((["upgrade", "head"], ""), (["verify"], "Verified"), (["plan"], "nothing to do")):
        done = subprocess.run(
            [sys.executable, "-P", "-c", start, *arguments],
            cwd=elsewhere,
            env={**os.environ, "DATABASE_URL": database_url},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
    assert list(elsewhere.iterdir()) == []
