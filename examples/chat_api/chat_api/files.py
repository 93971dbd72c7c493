"""Where the bytes of attachments lie: in a folder, or in a bucket of anything that speaks S3.

`CHAT_API_FILES` says which: a path, or `s3://bucket/prefix` with the extra `s3` installed. Credentials and endpoint of
a bucket come from the environment, by the names that AWS's own programs use (`AWS_ENDPOINT_URL`, ...).
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Protocol

from chat_api.settings import SettingsError


class Files(Protocol):
    """Keeps bytes by a name."""

    async def put(self, key: str, content: bytes) -> None:
        """Keep ``content``; whole, or not at all."""

    async def get(self, key: str) -> bytes | None:
        """Return what was kept; None where nothing is."""

    async def delete(self, key: str) -> None:
        """Forget it, where there is something to forget."""


def files(where: str) -> Files:
    """Return the store that a setting names; raises :class:`SettingsError`."""
    return Bucket(where) if where.startswith("s3://") else Folder(Path(where))


class Folder:
    """Files in a folder. A key is a name of ours, never a client's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def put(self, key: str, content: bytes) -> None:
        """Keep ``content``; whole, or not at all."""
        await asyncio.to_thread(self._put, self.folder / key, content)

    @staticmethod
    def _put(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.rename(path)

    async def get(self, key: str) -> bytes | None:
        """Return what was kept; None where nothing is."""
        with contextlib.suppress(FileNotFoundError):
            return await asyncio.to_thread((self.folder / key).read_bytes)
        return None

    async def delete(self, key: str) -> None:
        """Forget it, where there is something to forget."""
        await asyncio.to_thread((self.folder / key).unlink, missing_ok=True)


class Bucket:
    """Objects in a bucket."""

    def __init__(self, url: str) -> None:
        try:
            from obstore.store import from_url
        except ImportError:
            raise SettingsError(
                "CHAT_API_FILES names a bucket, and what speaks S3 is not installed. Install it:\n"
                "  pip install 'chat-api-example[s3]'"
            ) from None
        self._store = from_url(url)

    async def put(self, key: str, content: bytes) -> None:
        """Keep ``content``; whole, or not at all."""
        await self._store.put_async(key, content)

    async def get(self, key: str) -> bytes | None:
        """Return what was kept; None where nothing is."""
        with contextlib.suppress(FileNotFoundError):
            return bytes(await (await self._store.get_async(key)).bytes_async())
        return None

    async def delete(self, key: str) -> None:
        """Forget it, where there is something to forget."""
        with contextlib.suppress(FileNotFoundError):
            await self._store.delete_async(key)
