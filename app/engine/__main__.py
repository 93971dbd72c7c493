"""``alembic init -t "$(python -m <this package>)" migrations``: prints where the template of a project is."""

from pathlib import Path

print(Path(__file__).resolve().parent / "template")
