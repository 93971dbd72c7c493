"""A connection of a pool outlives its client: what that has left in pg_temp is not what the models read and write."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.acting_as import acting_as, acting_as_service
from app.models import Base, Conversation, Message, RetentionHold, RetentionRule, Share, User, UserLlmProvider
from tests.shadows import kit

ALL: set[type[Base]] = {mapper.class_ for mapper in Base.registry.mappers}
FOR_SERVICES: set[type[Base]] = {RetentionHold, RetentionRule, Share, UserLlmProvider}  # whole rows, that is


@pytest.fixture
def pooled(migrated_url: str) -> Iterator[sa.Engine]:
    """One connection, on which somebody has made a relation of each of our names."""
    engine = sa.create_engine(migrated_url, pool_size=1, max_overflow=0)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        kit.make(driver, "pg_temp", kit.our_relations())
        driver.execute("GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC")
        driver.commit()
    yield engine
    engine.dispose()


def assert_read(session: Session, models: set[type[Base]]) -> None:
    for model in models:
        found = session.scalars(sa.select(model)).all()  # a relation of the kit has one row, of NULLs
        assert len(found) == (model in (User, Conversation, Message)), model


@pytest.mark.parametrize("path", ['"$user", public', "public, pg_temp"])
def test_models_read_and_write_schema_public_within_blocks(pooled: sa.Engine, migrated_url: str, path: str) -> None:
    user: UUID = uuid4()
    with Session(pooled) as session:
        session.execute(sa.text("SELECT pg_catalog.set_config('search_path', :path, false)"), {"path": path})
        session.commit()
        with acting_as_service(session):
            session.add(User(id=user, email="ada@example.test"))
            session.commit()
        with acting_as(session, user):
            conversation = Conversation(user_id=user)
            session.add(conversation)
            session.flush()
            session.add(Message(conversation_id=conversation.id, user_id=user, role="user", content="Hello"))
            session.commit()
            assert_read(session, ALL - FOR_SERVICES)
        with acting_as_service(session):
            assert_read(session, ALL)
    with sa.create_engine(migrated_url, poolclass=sa.NullPool).connect() as connection:
        written = connection.scalars(
            sa.text("SELECT content FROM public.messages WHERE user_id = :user"), {"user": user}
        )
        assert list(written) == ["Hello"]
