"""`python -m app.catalog`: write head.json from the database at DATABASE_URL, just migrated from empty."""

from app.catalog import take_snapshot, write_expected
from app.database import connect, database_url

with database_url() as url, connect(url) as connection:
    print(write_expected(take_snapshot(connection)))
