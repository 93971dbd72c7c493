"""The wheel and the sdist: what they hold, and that a deploy job needs nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.packaging.conftest import Environment
from tests.postgres_binaries import ROOT
from tests.programs import output_of


def names(wheel: Path) -> list[str]:
    return [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]


def test_the_wheel_holds_chat_schema_with_the_chain_and_nothing_else(wheel: Path) -> None:
    found = names(wheel)
    assert {name.partition("/")[0] for name in found} == {"chat_schema"}
    files = {name.removeprefix("chat_schema/") for name in found}
    chain = {name for name in files if name.startswith("chain/")}
    modules = {str(file.relative_to(ROOT / "app")) for file in (ROOT / "app").rglob("*.py")}
    only_in_a_checkout = {"one_package.py"}
    template = {f"engine/template/{name}" for name in ("alembic.ini.mako", "script.py.mako")}
    data = {"py.typed", "catalog/head.json", "catalog/auth_users.json"} | template
    assert files - chain == modules - only_in_a_checkout | data
    revisions = {f"chain/alembic/versions/{path.name}" for path in (ROOT / "alembic" / "versions").glob("*.py")}
    assert chain == revisions | {"chain/alembic.ini", "chain/alembic/env.py", "chain/alembic/script.py.mako"}


def test_the_sdist_builds_the_same_wheel(wheel: Path, wheel_of_the_sdist: Path) -> None:
    assert wheel_of_the_sdist.read_bytes() == wheel.read_bytes()


def test_a_registry_would_take_both(wheel: Path, sdist: Path) -> None:
    output_of([sys.executable, "-m", "twine", "check", "--strict", wheel, sdist], cwd=ROOT)


def test_the_sdist_holds_what_the_repository_holds_and_no_data_of_this_machine(sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        found = {"/".join(Path(name).parts[1:]) for name in tar.getnames()}
    assert {name.partition("/")[0] for name in found} == {
        *(".ci", ".github", ".gitignore", ".squawk.toml", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile"),
        *("PKG-INFO", "README.md", "SECURITY.md", "alembic", "alembic.ini", "app", "benchmarks", "chat_schema", "docs"),
        *("examples", "mkdocs.yml", "pyproject.toml", "tests"),
    }
    assert not {Path(name).name for name in found} & {"__pycache__", ".venv", ".pytest_cache", ".pgdata"}
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    assert pages <= found


def test_an_editable_installation_copies_nothing_and_puts_one_name_on_the_path(tmp_path: Path) -> None:
    """It would go on importing the copy; and the checkout's own ``app`` and ``tests`` would shadow a service's."""
    code = f"from hatchling.build import build_editable; build_editable({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    [built] = tmp_path.iterdir()
    assert names(built) == ["_chat_schema.pth"]
    on_the_path = Path(zipfile.ZipFile(built).read("_chat_schema.pth").decode())
    assert {file.name for file in on_the_path.iterdir()} - {"__pycache__"} == {"chat_schema"}
    path = {"PYTHONPATH": str(on_the_path)}
    code = "import chat_schema.models; print(chat_schema.models.__file__)"
    said = output_of([sys.executable, "-c", code], cwd=tmp_path, env=path)
    assert said.strip() == str(ROOT / "app" / "models" / "__init__.py")
    assert output_of([sys.executable, "-m", "chat_schema", "--version"], cwd=tmp_path, env=path)


def test_the_installed_wheel_migrates_and_verifies_without_a_checkout(
    environment: Environment, tmp_path: Path, database_url: str
) -> None:
    for arguments, expected in ((["upgrade", "head"], ""), (["verify"], "Verified"), (["plan"], "nothing to do")):
        assert expected in environment.run("chat-schema", *arguments, cwd=tmp_path, DATABASE_URL=database_url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["revision", "init", "merge", "edit"])
def test_no_command_writes_into_the_installed_package(environment: Environment, tmp_path: Path, name: str) -> None:
    before = sorted(environment.site_packages.rglob("*.py"))
    words = {"revision": ["-m", "mine"], "init": ["mine"], "merge": ["0001", "0013"], "edit": ["head"]}[name]
    said = environment.fails("chat-schema", name, *words, cwd=tmp_path)
    assert f"chat-schema: `{name}` writes into the chain of chat-schema." in said
    assert "Tables of your own have a chain of their own (`alembic init`)" in said
    assert sorted(environment.site_packages.rglob("*.py")) == before
    assert list(tmp_path.iterdir()) == []


def test_without_an_address_a_folder_that_is_no_projects_is_refused(environment: Environment, tmp_path: Path) -> None:
    says = "DATABASE_URL is unset, and the current folder is / or was deleted, so nothing was run"
    assert says in environment.fails("chat-schema", "current", cwd=Path("/"))
    assert not Path("/.pgdata").exists()
    (tmp_path / "gone").mkdir()
    deleted = f"rmdir {tmp_path}/gone; exec {environment.folder}/bin/chat-schema current"
    assert says in environment.fails("sh", "-c", deleted, cwd=tmp_path / "gone")
