"""The distributions as they are published, and environments that have nothing of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.postgres_binaries import ROOT, unpack
from tests.programs import output_of


def build(source: Path, target: str, folder: Path) -> Path:
    """Build the wheel or sdist of the project at ``source``, without a network."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder], cwd=source, check=True)
    [built] = folder.iterdir()
    return built


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def wheel_of_the_sdist(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    unpacked = tmp_path_factory.mktemp("unpacked")
    unpack(sdist, unpacked)
    [source] = unpacked.iterdir()
    return build(source, "wheel", tmp_path_factory.mktemp("wheel_of_the_sdist"))


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "PYTHONPATH")}


@dataclass(frozen=True)
class Environment:
    """A virtual environment with chat-schema installed from a distribution."""

    folder: Path

    @property
    def site_packages(self) -> Path:
        scheme = {"base": str(self.folder), "platbase": str(self.folder)}
        return Path(sysconfig.get_path("purelib", "venv", scheme))

    def run(self, *command: str, cwd: Path, path: Path | None = None, **variables: str) -> str:
        """Run a program of the environment and return what it prints; ``path`` comes first on Python's path."""
        given = {**variables, **({"PYTHONPATH": str(path)} if path else {})}
        return output_of(self._found(command), cwd=cwd, env={**_inherited(), **given})

    def fails(self, *command: str, cwd: Path) -> str:
        """Run a program that must end with exit code 1, and return its message."""
        done = subprocess.run(
            self._found(command), cwd=cwd, env=_inherited(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    def _found(self, command: Sequence[str]) -> list[str | Path]:
        program = self.folder / "bin" / command[0]
        return [program if program.exists() else command[0], *command[1:]]

    def pip(self, command: str, *arguments: str | Path) -> None:
        """Run the pip of these tests on this environment, without a network."""
        alone = ["--no-index", "--no-deps"] if command == "install" else []
        pip = [sys.executable, "-m", "pip", "--python", self.folder / "bin" / "python", command, "--quiet", *alone]
        subprocess.run([*pip, *arguments], check=True)

    def python(self, code: str, *, cwd: Path, path: Path | None = None) -> str:
        return self.run("python", "-c", code, cwd=cwd, path=path)


def installed(distribution: Path, folder: Path) -> Environment:
    """Install ``distribution`` where our dependencies are, by a path that leaves out what is installed editable."""
    venv.create(folder, with_pip=False, symlinks=True)
    environment = Environment(folder)
    (environment.site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    environment.pip("install", "--ignore-installed", distribution)
    return environment


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return installed(wheel, tmp_path_factory.mktemp("environment") / "venv")
