"""Where the data of embedded servers lie, and which there are.

A project has them in ``.pgdata/<major>``. Root's server runs as another account (:mod:`app.unprivileged`). Where that
account cannot enter the project's folder, as below ``/root``, ``.pgdata/<major>`` is a link to a folder of its own in
``/var/lib/chat-schema/data``. A fresh clone has no link yet: it never finds what another one at its path has left.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import unprivileged

_PROJECT = "project"  # the file beside data in our folder that says which project's they are


@dataclass(frozen=True)
class Data:
    """The data of one server, and the folder of the project whose they are."""

    folder: Path
    link: Path

    @property
    def project(self) -> Path:
        """The folder of the project."""
        return self.link.parents[1]

    @property
    def is_left_behind(self) -> bool:
        """Whether the project is gone, or has other data by now."""
        return not _leads_to(self.link, self.folder)

    def remove(self) -> None:
        """Delete them, and the link that leads to them."""
        if self.link.is_symlink() and not self.is_left_behind:
            self.link.unlink()
        # The files beside a project's data that commands lock stay: one may be waiting for them.
        shutil.rmtree(self.folder.parent if _places() in self.folder.parents else self.folder)


def folder_for(data_dir: Path) -> Path:
    """Return the folder for the data of ``data_dir``: itself, or for root the one that it is made a link to.

    Raises OSError when something else is in the way.
    """
    data_dir = data_dir.absolute()
    _refuse_what_is_no_folder(data_dir)
    if data_dir.is_symlink() and _places() in Path(os.readlink(data_dir)).parents:
        place = Path(os.readlink(data_dir))
        if _is_of(place, data_dir):
            return place
        data_dir.unlink()  # a copy of a project has the link of the other one, or what it led to was removed
    elif data_dir.exists() or _is_reached(data_dir):
        return data_dir.resolve()
    place = _new_place(data_dir)
    unprivileged.make_folder(data_dir.parent, unprivileged.account_for(data_dir))
    try:
        data_dir.symlink_to(place)
    except FileExistsError:  # by another command, at this moment
        shutil.rmtree(place.parent)
        return folder_for(data_dir)
    return place


def existing(data_dir: Path) -> Iterator[Data]:
    """Yield the data of the project at hand and, for root, all that lie in our own folder."""
    data_dir = data_dir.absolute()
    if data_dir.is_dir():
        yield Data(Path(os.path.realpath(data_dir)), data_dir)
    if os.geteuid() == 0:
        for record in sorted(_places().glob(f"*/{_PROJECT}")):
            link = _link_of(record.parent)
            if not _leads_to(data_dir, record.parent / link.name):
                yield Data(record.parent / link.name, link)


def _places() -> Path:
    return unprivileged.FOLDER / "data"


def _link_of(place: Path) -> Path:
    return Path(os.fsdecode((place / _PROJECT).read_bytes()))


def _is_of(folder: Path, data_dir: Path) -> bool:
    """Tell whether data in our folder are this project's, which may have been moved since."""
    if not folder.parent.is_dir():
        return False
    recorded = _link_of(folder.parent)
    if recorded == data_dir:
        return True
    if _leads_to(recorded, folder):
        return False
    (folder.parent / _PROJECT).write_bytes(os.fsencode(data_dir))
    return True


def _leads_to(link: Path, folder: Path) -> bool:
    return os.path.realpath(link) == os.path.realpath(folder)


def _new_place(data_dir: Path) -> Path:
    unprivileged.root_folder()
    unprivileged.make_folder(_places(), unprivileged.account_for(_places()))
    place = Path(tempfile.mkdtemp(dir=_places()))
    (place / _PROJECT).write_bytes(os.fsencode(data_dir))
    place.chmod(0o755)
    return place / data_dir.name


def _is_reached(data_dir: Path) -> bool:
    account = unprivileged.account_for(data_dir)
    nearest = next(folder for folder in data_dir.parents if folder.exists())
    return account is None or unprivileged.reaches(account, nearest)


def _refuse_what_is_no_folder(data_dir: Path) -> None:
    for path in (*reversed(data_dir.parents), data_dir):
        if path.is_dir():
            continue
        if path.is_symlink():
            target = Path(os.readlink(path))
            if path != data_dir or _places() not in target.parents:
                raise FileNotFoundError(f"{path} is a link to {target}, and that is no folder")
        elif path.exists():
            raise NotADirectoryError(f"{path} is no folder")
