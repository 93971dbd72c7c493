"""The wheel and the sdist: what they hold, and that a deploy job needs nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.packaging.conftest import Environment
from tests.postgres_binaries import ROOT


def names(wheel: Path) -> list[str]:
    return [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]


def test_the_wheel_holds_the_package_by_both_names_and_the_chain_and_nothing_else(wheel: Path) -> None:
    found = names(wheel)
    both = {
        folder: {name.removeprefix(folder) for name in found if name.startswith(folder)}
        for folder in ("app/", "chat_schema/")
    }
    assert sum(len(files) for files in both.values()) == len(found)
    chain = {name for name in both["chat_schema/"] if name.startswith("chain/")}
    assert both["app/"] == both["chat_schema/"] - chain
    assert {"py.typed", "catalog/head.json", "catalog/auth_users.json", "models/__init__.py", "testing.py"} < both[
        "app/"
    ]
    revisions = {f"chain/alembic/versions/{path.name}" for path in (ROOT / "alembic" / "versions").glob("*.py")}
    assert chain == revisions | {"chain/alembic.ini", "chain/alembic/env.py", "chain/alembic/script.py.mako"}
    assert not [name for name in found if name.endswith((".gz", ".jsonl", ".pyc"))]


def test_the_sdist_builds_the_same_wheel(wheel: Path, wheel_of_the_sdist: Path) -> None:
    assert wheel_of_the_sdist.read_bytes() == wheel.read_bytes()


def test_the_sdist_holds_no_data_of_this_machine(sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        rooms = {Path(name).parts[1] for name in tar.getnames()}
    assert not rooms & {".pgdata", ".postgres", ".venv", ".git", ".hypothesis", ".mypy_cache"}


def test_an_editable_installation_copies_nothing(tmp_path: Path) -> None:
    """It would go on importing the copy."""
    code = f"from hatchling.build import build_editable; build_editable({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    [built] = tmp_path.iterdir()
    assert names(built) == ["_chat_schema.pth"]
    assert zipfile.ZipFile(built).read("_chat_schema.pth").decode() == str(ROOT)


def test_the_installed_wheel_migrates_and_verifies_without_a_checkout(
    environment: Environment, tmp_path: Path, database_url: str
) -> None:
    for arguments, expected in ((["upgrade", "head"], ""), (["verify"], "Verified"), (["plan"], "nothing to do")):
        assert expected in environment.run("chat-schema", *arguments, cwd=tmp_path, DATABASE_URL=database_url)
    assert list(tmp_path.iterdir()) == []
