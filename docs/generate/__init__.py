"""What of the documentation is written by a program: ``python -m docs.generate``."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent


def generated() -> dict[str, str]:
    """Return every page and picture that comes from the code alone, by its name below docs/."""
    from docs.generate.charts import charts
    from docs.generate.claims import claims_page
    from docs.generate.commands import commands_page, options_page
    from docs.generate.er_diagram import diagrams
    from docs.generate.messages import messages_page

    images = charts() | diagrams()
    return {
        "changelog.md": re.sub(r"\]\(docs/", "](", (ROOT / "CHANGELOG.md").read_text("utf-8")),
        "claims.md": claims_page(),
        "commands.md": commands_page(),
        "messages.md": messages_page(),
        "options.md": options_page(),
        **{f"images/{name}": content for name, content in images.items()},
    }
