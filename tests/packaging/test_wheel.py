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


def test_the_wheel_holds_chat_schema_with_the_chain_and_nothing_else(wheel: Path) -> None:
    found = names(wheel)
    assert {name.partition("/")[0] for name in found} == {"chat_schema"}
    files = {name.removeprefix("chat_schema/") for name in found}
    chain = {name for name in files if name.startswith("chain/")}
    modules = {str(file.relative_to(ROOT / "app")) for file in (ROOT / "app").rglob("*.py")}
    only_in_a_checkout = {"one_package.py"}
    data = {"py.typed", "catalog/head.json", "catalog/auth_users.json"}
    assert files - chain == modules - only_in_a_checkout | data
    revisions = {f"chain/alembic/versions/{path.name}" for path in (ROOT / "alembic" / "versions").glob("*.py")}
    assert chain == revisions | {"chain/alembic.ini", "chain/alembic/env.py", "chain/alembic/script.py.mako"}


def test_the_sdist_builds_the_same_wheel(wheel: Path, wheel_of_the_sdist: Path) -> None:
    assert wheel_of_the_sdist.read_bytes() == wheel.read_bytes()


def test_the_sdist_holds_no_data_of_this_machine(sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        rooms = {Path(name).parts[1] for name in tar.getnames()}
    assert not rooms & {".pgdata", ".postgres", ".venv", ".git", ".hypothesis", ".mypy_cache"}


def test_an_editable_installation_copies_nothing_and_puts_one_name_on_the_path(tmp_path: Path) -> None:
    """It would go on importing the copy; and the checkout's own ``app`` and ``tests`` would shadow a service's."""
    code = f"from hatchling.build import build_editable; build_editable({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    [built] = tmp_path.iterdir()
    assert names(built) == ["_chat_schema.pth"]
    on_the_path = Path(zipfile.ZipFile(built).read("_chat_schema.pth").decode())
    assert {file.name for file in on_the_path.iterdir()} - {"__pycache__"} == {"chat_schema.py"}
    code = "import chat_schema.models; print(chat_schema.models.__file__)"
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(on_the_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == str(ROOT / "app" / "models" / "__init__.py")


def test_the_installed_wheel_migrates_and_verifies_without_a_checkout(
    environment: Environment, tmp_path: Path, database_url: str
) -> None:
    for arguments, expected in ((["upgrade", "head"], ""), (["verify"], "Verified"), (["plan"], "nothing to do")):
        assert expected in environment.run("chat-schema", *arguments, cwd=tmp_path, DATABASE_URL=database_url)
    assert list(tmp_path.iterdir()) == []
