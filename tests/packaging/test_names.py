"""``app`` and ``chat_schema`` are one package in a checkout; ``chat_schema`` is installed, beside any other ``app``."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.packaging.conftest import Environment, build
from tests.postgres_binaries import ROOT
from tests.programs import output_of

SAME = """
import importlib, pkgutil, sys
{first}
import chat_schema, chat_schema.models, app, app.models
from app.models import ChatMessage, Conversation, Message, User
assert chat_schema.models.Conversation is Conversation
assert len(list(Conversation.registry.mappers)) == len({{m.local_table.name for m in Conversation.registry.mappers}})
for module in pkgutil.walk_packages(chat_schema.__path__, "chat_schema."):
    if ".chain" in module.name or module.name.endswith((".__main__", ".one_package")):  # the last lends the name
        continue
    by_one_name = importlib.import_module(module.name)
    spec = by_one_name.__spec__
    assert importlib.import_module("app." + module.name.partition(".")[2]) is by_one_name, module.name
    assert by_one_name.__spec__ is spec and spec.name == by_one_name.__name__ == module.name
print(chat_schema.__file__, app.__file__)
"""
each_order = pytest.mark.parametrize(
    "first", ["import app.models", "import chat_schema.models", "from app import queries"]
)


@each_order
def test_both_names_lead_to_the_same_modules_in_a_checkout(first: str) -> None:
    command = [sys.executable, "-W", "error::ImportWarning", "-c", SAME.format(first=first)]
    said = output_of(command, cwd=ROOT)
    assert said.split() == [str(ROOT / "chat_schema" / "__init__.py"), str(ROOT / "app" / "__init__.py")]


def test_what_is_not_there_is_missing_under_the_name_that_was_asked_for() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'app\.nothing'"):
        __import__("app.nothing")


def test_the_modules_import_each_other_without_the_name_that_is_lent() -> None:
    files = [*(ROOT / "app").rglob("*.py"), ROOT / "alembic" / "env.py"]
    lent = re.compile(r"^\s*(from|import) app\b", re.MULTILINE)
    assert [file.name for file in files if lent.search(file.read_text())] == []


SERVICE = {
    "app/__init__.py": "",
    "app/models/__init__.py": '''
"""The service's own models, which reference ours."""

from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chat_schema.models import Base, Conversation


class Label(Base):
    __tablename__ = "labels"

    id: Mapped[int] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID] = mapped_column(ForeignKey(Conversation.id, ondelete="CASCADE"))
    name: Mapped[str]


class Other(DeclarativeBase):
    """A registry of its own may have a class and a table of the same name."""


class User(Other):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
''',
    "app/main.py": """
from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.models import Label, User
from chat_schema import queries
from chat_schema.acting_as import acting_as
from chat_schema.models import Conversation, Message


def threads(session: Session, user_id: UUID) -> Sequence[Conversation]:
    with acting_as(session, user_id):
        return session.scalars(queries.conversations_of_user(user_id)).all()


def titles(session: Session) -> list[str | None]:
    return [conversation.title for conversation in session.scalars(select(Conversation))]


def append(session: Session, conversation: Conversation) -> Sequence[Message]:
    turn = queries.append_turn(conversation.id, conversation.user_id, "Hi", "Hello!", key="1")
    return session.scalars(turn).all()


def cost(session: Session, id_: UUID) -> Decimal:
    return session.scalars(queries.session_cost(id_)).one()


label = Label(conversation_id=Conversation(user_id=UUID(int=1)).id, name="later")
user = User(id=1)
""",
}


@pytest.fixture
def service(tmp_path: Path) -> Path:
    folder = tmp_path / "service"
    for name, text in SERVICE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_service_with_an_app_of_its_own_imports_our_models(environment: Environment, service: Path) -> None:
    code = """
import app.main, app.models, chat_schema.models, sys
from sqlalchemy.orm import configure_mappers
configure_mappers()
assert app.models.Label.metadata is chat_schema.models.Base.metadata
assert app.models.User is not chat_schema.models.User
assert not any(name.startswith("app.") and name not in ("app.main", "app.models") for name in sys.modules)
print(app.__file__, chat_schema.__file__)
"""
    said = environment.python(code, cwd=service).split()
    assert said == [
        str(service / "app" / "__init__.py"),
        str(environment.site_packages / "chat_schema" / "__init__.py"),
    ]


def test_a_checkout_on_the_path_serves_it_too(service: Path) -> None:
    code = "import app.main, chat_schema; print(app.__file__, chat_schema.__file__)"
    said = output_of([sys.executable, "-c", code], cwd=service, env={"PYTHONPATH": str(ROOT)})
    assert said.split() == [str(service / "app" / "__init__.py"), str(ROOT / "chat_schema" / "__init__.py")]


def test_the_command_works_in_its_folder(environment: Environment, service: Path, database_url: str) -> None:
    (service / "alembic.ini").write_text("[alembic]\nscript_location = nowhere\n")  # of the service's own chain
    for arguments, expected in ((["upgrade", "head"], ""), (["verify"], "Verified"), (["downgrade", "-1"], "")):
        said = environment.run("chat-schema", *arguments, cwd=service, path=service, DATABASE_URL=database_url)
        assert expected in said


@pytest.fixture
def installed_service(service: Path, tmp_path: Path) -> Environment:
    """An environment in which the service itself is installed, as a package ``app``."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    environment = Environment(tmp_path / "venv")
    project = '[project]\nname = "service"\nversion = "1"\n[build-system]\nrequires = ["hatchling"]\n'
    build_system = 'build-backend = "hatchling.build"\n[tool.hatch.build.targets.wheel]\npackages = ["app"]\n'
    (service / "pyproject.toml").write_text(project + build_system)
    environment.pip("install", build(service, "wheel", tmp_path / "built"))
    return environment


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.py")}


def test_nothing_of_an_installed_service_is_changed_by_our_installation_upgrade_and_removal(
    installed_service: Environment, service: Path, wheel: Path
) -> None:
    ours, theirs = (installed_service.site_packages / name for name in ("chat_schema", "app"))
    installed_service.pip("install", wheel)
    assert (ours / "models" / "__init__.py").is_file()
    assert contents(theirs) == contents(service / "app")
    installed_service.pip("install", "--upgrade", "--force-reinstall", wheel)
    assert contents(theirs) == contents(service / "app")
    installed_service.pip("uninstall", "--yes", "chat-schema")
    assert not ours.exists()
    assert contents(theirs) == contents(service / "app")


def test_without_an_app_of_its_own_an_environment_has_none(environment: Environment, tmp_path: Path) -> None:
    code = "import importlib.util, chat_schema.models; print(importlib.util.find_spec('app'))"
    assert environment.python(code, cwd=tmp_path).strip() == "None"


def test_the_types_are_known_beside_it(environment: Environment, service: Path) -> None:
    (service / "app" / "wrong.py").write_text(
        "from chat_schema.models import Conversation\n"
        "Conversation().title.upper()\n"
        "Conversation().name\n"
        "reveal_type(Conversation().tenant_id)\n"
    )
    mypy = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--python-executable"]
    said = subprocess.run(
        [*mypy, environment.folder / "bin" / "python", "app"],
        cwd=service,
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line.partition(": ")[2] for line in said.stdout.splitlines()[:-1]] == [
        'error: Item "None" of "str | None" has no attribute "upper"  [union-attr]',
        'error: "Conversation" has no attribute "name"  [attr-defined]',
        'note: Revealed type is "uuid.UUID | None"',
    ]
    assert all(line.startswith("app/wrong.py:") for line in said.stdout.splitlines()[:-1])
