"""Draw the pictures of docs/chat_api.md: `python -m tests.screenshots`, in this folder."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

import psycopg

from chat_api import local
from chat_api.settings import Settings
from chat_schema import embedded
from tests.browser import Page, chromium
from tests.conftest import Running, libpq, running

IMAGES = Path(__file__).parents[3] / "docs" / "images"
SAID = {
    "Brand": ["What did we decide on the blue?"],
    "Move": ["Draft a note to the team about the move in May."],
    "Lyon": ["Two seats on Friday, please. The early train to Lyon, if there is one.", "And a hotel near the station?"],
}
REPLY = """The 07:04 is the early one, and two seats are left:

| leaves | arrives | seats |
|---|---|---|
| 07:04 | 09:02 | **2** |
| 08:30 | 10:28 | 14 |

```python
book(train="07:04", seats=2, day="Friday")
```
"""


def main() -> None:
    """Fill a fresh database, and look at it as its user does."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with embedded.running(Path(folder) / "data") as server:
            settings = Settings(local.prepare(server.url()), secret=uuid.uuid4().hex, files=str(Path(folder) / "files"))
            with (
                psycopg.connect(libpq(server.url()), autocommit=True) as owner,
                running(settings) as url,
                chromium(Path(folder) / "profile") as driver,
            ):
                chat, page = Running(url, settings, owner), Page(driver, url)
                ann = chat.person("ann@example.com")
                acme = chat.tenant("Acme", ann)
                for name, lines in SAID.items():
                    conversation = ann.begins(tenant_id=str(acme) if name == "Brand" else None)["id"]
                    for line in lines:
                        ann.says(conversation, line)
                owner.execute(
                    "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'assistant', %s)",
                    [conversation, ann.user_id, REPLY],
                )
                page.opens(ann)
                page.clicks("#conversations a")
                page.until(lambda: len(page.said()) == 5)
                driver.save_screenshot(str(IMAGES / "chat_api_desktop.png"))
                page.looks(dark=True, width=390)
                driver.save_screenshot(str(IMAGES / "chat_api_phone.png"))
    print(*sorted(IMAGES.glob("chat_api_*.png")), sep="\n")


if __name__ == "__main__":
    main()
