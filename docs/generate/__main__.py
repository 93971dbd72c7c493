"""Write the pages and pictures that come from the code and from the recorded figures.

    python -m docs.generate

It needs no database and no network. What needs a running upgrade is drawn by ``python -m docs.generate.terminal``, and
what is measured by ``make claims``.
"""

from docs.generate import DOCS, ROOT, generated


def main() -> None:
    """Write what changed, and print its name."""
    for name, content in generated().items():
        file = DOCS / name
        if not file.exists() or file.read_text("utf-8") != content:
            file.write_text(content, "utf-8")
            print(file)
    api = ROOT / "build" / "api" / "chat_schema"  # our package by its installed name, for the reference of the site
    if not api.exists():
        api.parent.mkdir(parents=True, exist_ok=True)
        api.symlink_to(ROOT / "app", target_is_directory=True)


if __name__ == "__main__":
    main()
