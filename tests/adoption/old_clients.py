"""The four applications as they were before they heard of this package, each doing all it ever does, turn after turn.

Three of them reach the database through PostgREST: the login ``authenticator``, and in each transaction the role, the
claims and the statement that PostgREST writes. The fourth is a server of its own, with the login that owns the tables
or with one that was granted rights on them.
Nothing here may be adapted to the new schema: these are the statements of clients that nobody has deployed anew.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any
from uuid import uuid4

import psycopg

from tests.adoption.legacy import Place
from tests.conftest import libpq
from tests.live.command_line import PATIENCE, wait_for

USER, NEIGHBOUR = "a0000000-0000-4000-8000-000000000001", "a0000000-0000-4000-8000-000000000002"
ACME = "30000000-0000-4000-8000-000000000001"
Row = dict[str, Any]


class Api:
    """PostgREST on one connection: a request is a transaction, its answer a list of JSON objects.

    ``url`` is the address for the login ``authenticator``.
    """

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(libpq(url), options=f"-c statement_timeout={PATIENCE:.0f}s")

    def close(self) -> None:
        self._connection.close()

    def transaction(self) -> AbstractContextManager[object]:
        """Let the requests within be one transaction."""
        return self._connection.transaction()

    def request(
        self,
        user: str,
        statement: str,
        parameters: Sequence[object] = (),
        *,
        role: str = "authenticated",
        prefer: str = "return=representation",
    ) -> list[Row]:
        claims = {"sub": user, "role": role} if role == "authenticated" else {"role": role}
        with self._connection.transaction():
            self._connection.execute(
                "SELECT set_config('search_path', '\"public\", \"extensions\"', true), set_config('role', %s, true),"
                " set_config('request.jwt.claims', %s, true), set_config('request.headers', %s, true)",
                [role, json.dumps(claims), json.dumps({"prefer": prefer})],
            )
            answer = self._connection.execute(
                f"WITH pgrst_source AS ({statement}) SELECT coalesce(json_agg(_postgrest_t), '[]')"
                " FROM (SELECT * FROM pgrst_source) _postgrest_t".encode(),
                parameters,
            ).fetchone()
        assert answer is not None
        found: list[Row] = answer[0]
        return found

    def insert(
        self,
        user: str,
        table: str,
        row: Row,
        *,
        upsert: bool = False,
        on_conflict: str | None = None,
        role: str = "authenticated",
    ) -> Row:
        """POST with ``Prefer: return=representation``; with ``upsert`` also ``resolution=merge-duplicates``.

        The conflict is one of the column ``on_conflict`` (``?on_conflict=``), or of the primary key where PostgREST
        knows of one; where it does not, an upsert is a plain INSERT.
        """
        columns = ", ".join(f'"{column}"' for column in sorted(row))
        changes = ", ".join(f'"{column}" = EXCLUDED."{column}"' for column in sorted(row))
        target = on_conflict or (self._primary_key(table) if upsert else None)
        conflict = f' ON CONFLICT("{target}") DO UPDATE SET {changes}' if upsert and target else ""
        statement = (
            f'INSERT INTO "public"."{table}"({columns}) SELECT {columns}'
            f' FROM json_populate_recordset(null::"public"."{table}", %s::json)'
            f'{conflict} RETURNING "public"."{table}".*'
        )
        prefer = "return=representation" + (",resolution=merge-duplicates" if upsert else "")
        try:
            [written] = self.request(user, statement, [json.dumps([row])], role=role, prefer=prefer)
        except psycopg.errors.InvalidColumnReference:
            if on_conflict or self._primary_key(table) == target:
                raise
            return self.insert(user, table, row, upsert=upsert, role=role)  # it has read the catalog anew meanwhile
        return written

    def _primary_key(self, relation: str) -> str | None:
        """Return what PostgREST takes for the key: that of a table, or of the one whose key column a view shows."""
        with self._connection.transaction():
            found = self._connection.execute(
                r"""
                SELECT a.attname FROM pg_constraint AS k
                JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum]
                WHERE k.contype = 'p' AND (k.conrelid, a.attnum) IN (
                  SELECT r.oid, n FROM to_regclass(%(name)s) AS r(oid), generate_series(1, 99) AS n
                  UNION ALL
                  SELECT (shown[2])::oid, (shown[3])::int
                  FROM pg_rewrite AS w, regexp_matches(w.ev_action::text,
                    ':resname (\S+) :ressortgroupref \d+ :resorigtbl (\d+) :resorigcol (\d+)', 'g') AS shown
                  WHERE w.ev_class = to_regclass(%(name)s)
                )
                """,
                {"name": f"public.{relation}"},
            ).fetchone()
        return found[0] if found else None

    def select(
        self, user: str, table: str, where: Mapping[str, str] = {}, order: str = "created_at", *, newest: bool = True
    ) -> list[Row]:
        """GET with ``column=eq.value`` for each of ``where``, ordered, at most 50 rows."""
        return self.request(
            user,
            f'SELECT "public"."{table}".* FROM "public"."{table}"{_condition(table, where)}'
            f' ORDER BY "public"."{table}"."{order}" {"DESC" if newest else "ASC"} LIMIT 50',
            list(where.values()),
        )

    def update(self, user: str, table: str, key: str, row: Row) -> Row:
        """PATCH of one row by its id."""
        columns = ", ".join(f'"{column}"' for column in sorted(row))
        changes = ", ".join(f'"{column}" = pgrst_body."{column}"' for column in sorted(row))
        [written] = self.request(
            user,
            f'UPDATE "public"."{table}" SET {changes} FROM (SELECT {columns} FROM'
            f' json_populate_recordset(null::"public"."{table}", %s::json)) pgrst_body'
            f' WHERE "public"."{table}"."id" = %s RETURNING "public"."{table}".*',
            [json.dumps([row]), key],
        )
        return written

    def delete(self, user: str, table: str, where: Mapping[str, str]) -> list[Row]:
        """DELETE with ``column=eq.value`` for each of ``where``."""
        return self.request(
            user,
            f'DELETE FROM "public"."{table}"{_condition(table, where)} RETURNING "public"."{table}".*',
            list(where.values()),
        )

    def call(self, user: str, function: str, arguments: Row) -> list[Row]:
        """POST to ``/rpc/<function>``."""
        named = ", ".join(f'"{name}" := %s' for name in arguments)
        return self.request(user, f'SELECT * FROM "public"."{function}"({named}) pgrst_call', list(arguments.values()))


def _condition(table: str, where: Mapping[str, str]) -> str:
    return " WHERE " + " AND ".join(f'"public"."{table}"."{column}" = %s' for column in where) if where else ""


class Auth:
    """The platform's own service for sign-ups, as role ``supabase_auth_admin``, which owns auth.users.

    ``url`` is the superuser's address.
    """

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(libpq(url), autocommit=True, prepare_threshold=None)
        self._connection.execute("SET SESSION AUTHORIZATION supabase_auth_admin")
        self._connection.execute(f"SET statement_timeout = '{PATIENCE:.0f}s'")

    def close(self) -> None:
        self._connection.close()

    def sign_up(
        self, email: str | None = None, *, phone: str | None = None, sso: bool = False, full_name: str | None = None
    ) -> str:
        """Return the id of a new account; without ``email`` and ``phone`` it is an anonymous one."""
        user, told = str(uuid4()), json.dumps({"full_name": full_name} if full_name else {})
        self._connection.execute(
            "INSERT INTO auth.users (id, instance_id, aud, role, email, phone, raw_app_meta_data, raw_user_meta_data,"
            " created_at, updated_at, is_sso_user, is_anonymous) VALUES (%s, '00000000-0000-0000-0000-000000000000',"
            " 'authenticated', 'authenticated', %s, %s, '{}', %s, now(), now(), %s, %s)",
            [user, email, phone, told, sso, email is None and phone is None],
        )
        return user

    def sign_in(self, user: str) -> None:
        """What each sign-in writes."""
        self.change(user, "updated_at = now()")

    def change(self, user: str, assignments: str, *values: object) -> None:
        changed = self._connection.execute(
            f"UPDATE auth.users SET {assignments} WHERE id = %s".encode(), [*values, user]
        )
        assert changed.rowcount == 1

    def delete(self, user: str) -> None:
        deleted = self._connection.execute("DELETE FROM auth.users WHERE id = %s", [user])
        assert deleted.rowcount == 1


class Client(ABC):
    """One client of an application. A turn leaves one row behind; ``kept`` knows it: id -> what must be in it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.turns = 0
        self.failures: list[str] = []
        self.kept: dict[str, object] = {}
        self.open()

    @abstractmethod
    def open(self) -> None:
        """Connect."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    def turn(self) -> None:
        """Do everything that the application does, once, and look at each answer."""

    @abstractmethod
    def found(self) -> dict[str, object]:
        """Return what the application lists of what is in ``kept``."""

    def try_turn(self) -> None:
        """Take a turn; what goes wrong is counted, and the next turn comes on a new connection."""
        try:
            self.turn()
        except (psycopg.Error, AssertionError, ValueError) as failure:
            at = [frame.line for frame in traceback.extract_tb(failure.__traceback__) if frame.name == "turn"]
            self.failures.append(f"{type(failure).__name__}: {failure} in {at}")
            self.close()
            self.open()
        self.turns += 1

    def check(self) -> None:
        """No statement has failed, and the application finds what it has kept, as it wrote it."""
        assert not self.failures, f"{len(self.failures)} of {self.turns} turns failed: {self.failures}"
        assert self.kept
        assert self.found() == self.kept


class Hosted(Client):
    """A client that comes through PostgREST, and signs new users up."""

    def open(self) -> None:
        self.api, self.auth = Api(self.place.url_of("authenticator")), Auth(self.place.admin.url)

    def close(self) -> None:
        self.api.close()
        self.auth.close()

    def newcomer(self) -> str:
        """Sign somebody up, who can act at once."""
        user = self.auth.sign_up(f"{uuid4()}@example.test")
        self.auth.sign_in(user)
        return user


class SoulPrint(Hosted):
    """One flat history of messages for each user."""

    def turn(self) -> None:
        api, text = self.api, f"message {random.random()}"  # noqa: S311  dice
        asked = api.insert(USER, "chat_messages", {"user_id": USER, "role": "user", "content": text})
        reply = {"user_id": USER, "role": "assistant", "content": "reply", "created_at": None}
        answered = api.insert(USER, "chat_messages", reply, role="service_role")
        listed = api.select(USER, "chat_messages", {"user_id": USER})
        assert {"id", "user_id", "role", "content", "created_at"} <= set(listed[0])
        assert asked["id"] in [row["id"] for row in listed]
        api.update(USER, "chat_messages", asked["id"], {"content": text + " (edited)"})
        upserted = {"id": asked["id"], "user_id": USER, "role": "user", "content": text + " (again)"}
        assert api.insert(USER, "chat_messages", upserted, upsert=True)["content"] == text + " (again)"
        assert len(api.delete(USER, "chat_messages", {"id": answered["id"]})) == 1
        self.kept[asked["id"]] = text + " (again)"

        somebody = self.newcomer()
        api.insert(somebody, "chat_messages", {"user_id": somebody, "role": "user", "content": "first"})
        [first] = api.select(somebody, "chat_messages", {"user_id": somebody})
        assert first["content"] == "first"
        assert api.select(somebody, "chat_messages", {"user_id": USER}) == []

    def found(self) -> dict[str, object]:
        every = self.api.request(USER, "SELECT id, content FROM public.chat_messages")
        return {row["id"]: row["content"] for row in every if row["id"] in self.kept}


class SoulPrintWithConversations(SoulPrint):
    """The same after its own migrations: messages in conversations too."""

    def turn(self) -> None:
        super().turn()
        api = self.api
        conversation = api.insert(USER, "conversations", {"user_id": USER, "title": "Plans"})["id"]
        api.insert(USER, "conversations", {"user_id": USER})  # titled by the default
        message = {"user_id": USER, "role": "user", "content": "in it", "conversation_id": conversation}
        api.insert(USER, "chat_messages", message)
        [listed] = api.select(USER, "chat_messages", {"conversation_id": conversation}, newest=False)
        assert listed["content"] == "in it"
        assert api.update(USER, "conversations", conversation, {"title": "Other plans"})["title"] == "Other plans"
        assert conversation in [row["id"] for row in api.select(USER, "conversations", {}, "updated_at")]
        assert len(api.delete(USER, "conversations", {"id": conversation})) == 1
        assert api.select(USER, "chat_messages", {"conversation_id": conversation}) == []


class Profiles(SoulPrint):
    """The same beside profiles that the application's own trigger makes at sign-up; clients come with the anon key."""

    def turn(self) -> None:
        super().turn()
        api, name = self.api, f"Person {random.random()}"  # noqa: S311  dice
        somebody = self.auth.sign_up(f"{uuid4()}@example.test", full_name=name)
        if self.place.platform == "supabase-all":  # elsewhere no client has a right on the table
            profile = "SELECT id, full_name, avatar_url, preferences FROM public.users WHERE id = %s"
            assert [row["full_name"] for row in api.request(somebody, profile, [somebody])] == [name]
            changed = api.request(
                somebody,
                "UPDATE public.users SET avatar_url = 'a.png', preferences = '{\"dark\": true}' WHERE id = %s"
                " RETURNING avatar_url, preferences",
                [somebody],
            )
            assert changed == [{"avatar_url": "a.png", "preferences": {"dark": True}}]
            assert api.request(USER, profile, [somebody]) == []
            assert (
                api.request(USER, "UPDATE public.users SET full_name = 'x' WHERE id = %s RETURNING id", [somebody])
                == []
            )
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            assert api.request(somebody, "SELECT full_name FROM public.users", role="anon") == []

    def newcomer(self) -> str:
        user = self.auth.sign_up(f"{uuid4()}@example.test", full_name="Newcomer")
        self.auth.sign_in(user)
        return user


class ChatSessions(Hosted):
    """A session a row, its messages one array that is written as a whole."""

    def turn(self) -> None:
        api, text = self.api, f"message {random.random()}"  # noqa: S311  dice
        assert ACME in [row["id"] for row in api.select(USER, "tenants")]
        assert ACME in [row["tenant_id"] for row in api.select(USER, "tenant_users", {"user_id": USER})]
        question = {"role": "user", "content": text, "timestamp": "2026-02-01T10:00:00Z"}
        answer = {"role": "assistant", "content": "reply", "timestamp": "2026-02-01T10:00:01Z"}
        session = api.insert(USER, "chat_sessions", {"tenant_id": ACME, "user_id": USER, "messages": [question]})["id"]
        [stored] = api.select(USER, "chat_sessions", {"id": session})
        assert set(stored) >= {"id", "tenant_id", "user_id", "messages", "created_at", "updated_at"}
        assert stored["messages"] == [question]
        whole = api.update(USER, "chat_sessions", session, {"messages": [*stored["messages"], answer]})
        assert whole["messages"] == [question, answer]
        assert session in [row["id"] for row in api.select(USER, "chat_sessions", {"tenant_id": ACME}, "updated_at")]
        assert api.select(NEIGHBOUR, "chat_sessions", {"id": session}) == []
        other = api.insert(USER, "chat_sessions", {"tenant_id": ACME, "user_id": USER})
        assert other["messages"] == []
        assert len(api.delete(USER, "chat_sessions", {"id": other["id"]})) == 1
        self.kept[session] = [question, answer]

        row: Row = {"id": str(uuid4()), "tenant_id": ACME, "user_id": USER, "messages": [question]}
        made = api.insert(USER, "chat_sessions", row, upsert=True)
        assert made["messages"] == [question]
        row["messages"] = [question, answer]
        over = api.insert(USER, "chat_sessions", row, upsert=True)
        assert (over["messages"], over["created_at"]) == ([question, answer], made["created_at"])
        self.kept[row["id"]] = [question, answer]
        self.newcomer()

    def found(self) -> dict[str, object]:
        every = self.api.request(USER, "SELECT id, messages FROM public.chat_sessions")
        return {row["id"]: row["messages"] for row in every if row["id"] in self.kept}


class History(Hosted):
    """The same application after its own rename: conversations, and a row a message that names no owner."""

    def turn(self) -> None:
        api, text = self.api, f"message {random.random()}"  # noqa: S311  dice
        conversation = api.insert(USER, "conversations", {"tenant_id": ACME, "user_id": USER})
        assert conversation["title"] == "New Conversation"
        question = api.insert(
            USER, "messages", {"conversation_id": conversation["id"], "role": "user", "content": text}
        )
        api.insert(
            USER,
            "messages",
            {
                "conversation_id": conversation["id"],
                "role": "assistant",
                "content": "reply",
                "metadata": {"model": "m"},
            },
            role="service_role",
        )
        listed = api.select(USER, "messages", {"conversation_id": conversation["id"]}, newest=False)
        assert [row["content"] for row in listed] == [text, "reply"]
        assert {"id", "conversation_id", "role", "content", "metadata", "created_at"} <= set(listed[0])
        again = {"id": question["id"], "conversation_id": conversation["id"], "role": "user", "content": text}
        api.insert(USER, "messages", again, upsert=True)
        api.update(USER, "conversations", conversation["id"], {"title": text, "metadata": {"pinned": True}})
        assert conversation["id"] in [row["id"] for row in api.select(USER, "conversations", {}, "updated_at")]
        assert api.select(NEIGHBOUR, "messages", {"conversation_id": conversation["id"]}) == []
        self.kept[question["id"]] = text

        short = api.insert(USER, "conversations", {"tenant_id": ACME, "user_id": USER, "title": "short"})["id"]
        api.insert(USER, "messages", {"conversation_id": short, "role": "system", "content": "be nice"})
        assert len(api.delete(USER, "messages", {"conversation_id": short})) == 1
        assert len(api.delete(USER, "conversations", {"id": short})) == 1
        self.newcomer()

    def found(self) -> dict[str, object]:
        every = self.api.request(USER, "SELECT id, content FROM public.messages")
        return {row["id"]: row["content"] for row in every if row["id"] in self.kept}


class Brands(Hosted):
    """Brand-Infinity before its creative sessions."""

    def turn(self) -> None:
        api, name = self.api, f"brand {random.random()}"  # noqa: S311  dice
        brand = api.insert(USER, "brands", {"user_id": USER, "name": name})["id"]
        assert brand in [row["id"] for row in api.select(USER, "brands")]
        api.update(USER, "brands", brand, {"name": name + " (renamed)"})
        api.insert(USER, "brands", {"id": brand, "user_id": USER, "name": name}, upsert=True)
        assert api.select(NEIGHBOUR, "brands", {"id": brand}) == []
        somebody = self.newcomer()
        other = api.insert(somebody, "brands", {"user_id": somebody, "name": "other"})["id"]
        assert len(api.delete(somebody, "brands", {"id": other})) == 1
        self.kept[brand] = name

    def found(self) -> dict[str, object]:
        every = self.api.request(USER, "SELECT id, name FROM public.brands")
        return {row["id"]: row["name"] for row in every if row["id"] in self.kept}


class CreativeSessions(Brands):
    """Brand-Infinity with sessions, what each message costs, and its functions and views."""

    def turn(self) -> None:
        super().turn()
        api = self.api
        brand = next(reversed(self.kept))
        session = api.insert(USER, "conversation_sessions", {"brand_id": brand, "user_id": USER})
        assert session["state"] == "initial"
        message = {"session_id": session["id"], "brand_id": brand, "user_id": USER}
        api.insert(USER, "conversation_messages", {**message, "role": "user", "content": "Make a video"})
        paid = {"tokens_used": 812, "model_used": "m", "provider": "p", "cost_usd": 0.012345, "latency_ms": 1830}
        api.insert(USER, "conversation_messages", {**message, "role": "director", "content": "Which tone?", **paid})
        of_session = {"p_session_id": session["id"]}
        history = api.call(USER, "get_conversation_history", of_session)
        assert [row["content"] for row in history] == ["Make a video", "Which tone?"]
        assert len(api.call(USER, "get_conversation_history", {**of_session, "p_limit": 1})) == 1
        [stats] = api.call(USER, "get_session_message_stats", of_session)
        assert (stats["message_count"], stats["total_tokens"]) == (2, 812)
        [cost] = api.request(USER, 'SELECT "public"."get_session_cost"("p_session_id" := %s) AS cost', [session["id"]])
        assert cost["cost"] == 0.012345
        [moved] = api.select(USER, "conversation_sessions", {"id": session["id"]})
        assert moved["last_activity_at"] >= session["last_activity_at"]
        api.update(USER, "conversation_sessions", session["id"], {"state": "gathering_info", "parsed_intent": {"a": 1}})
        for function, state in (("complete", "delivered"), ("cancel", "cancelled")):
            api.request(
                USER, f'SELECT "public"."{function}_conversation_session"("p_session_id" := %s)', [session["id"]]
            )
            [ended] = api.select(USER, "conversation_sessions", {"id": session["id"]})
            assert (ended["state"], ended["completed_at"] is None) == (state, False)
        assert "p" in [row["provider"] for row in api.request(USER, "SELECT * FROM public.provider_usage_stats")]
        assert api.request(USER, "SELECT * FROM public.daily_message_volume")
        assert len(api.delete(USER, "conversation_sessions", {"id": session["id"]})) == 1
        assert api.call(USER, "get_conversation_history", of_session) == []


class Todo(Client):
    """A server that keeps accounts of its own and has the owner's login: SQL as it stands in its repository."""

    login: str | None = None

    def open(self) -> None:
        url = self.place.url_of(self.login) if self.login else self.place.url
        self._session = psycopg.connect(libpq(url), autocommit=True, prepare_threshold=None)

    def close(self) -> None:
        self._session.close()

    def run(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        cursor = self._session.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def turn(self) -> None:
        text = f"message {random.random()}"  # noqa: S311  dice
        [(user,)] = self.run(
            "INSERT INTO users (email, password_hash) VALUES (%s, '$2b$12$x') RETURNING id", f"{uuid4()}@example.test"
        )
        [(found, password)] = self.run("SELECT id, password_hash FROM users WHERE id = %s", user)
        assert (found, password) == (user, "$2b$12$x")
        [(task,)] = self.run("INSERT INTO tasks (user_id, title) VALUES (%s, 'Buy milk') RETURNING id", user)
        self.run("UPDATE tasks SET completed = true, updated_at = now() WHERE id = %s AND user_id = %s", task, user)
        listed = self.run("SELECT id, completed FROM tasks WHERE user_id = %s ORDER BY created_at DESC", user)
        assert listed == [(task, True)]
        assert self.run("SELECT title FROM tasks WHERE id = %s AND user_id = %s", task, user) == [("Buy milk",)]
        self.run("DELETE FROM tasks WHERE id = %s AND user_id = %s", task, user)

        [(conversation, title)] = self.run(
            "INSERT INTO conversations (user_id, title) VALUES (%s, NULL) RETURNING id, title", user
        )
        assert title is None
        insert = (
            "INSERT INTO messages (conversation_id, user_id, role, content, tool_calls)"
            " VALUES (%s, %s, %s, %s, %s) RETURNING id"
        )
        [(question,)] = self.run(insert, conversation, user, "user", text, None)
        self.run(insert, conversation, user, "agent", "Added.", '[{"tool": "add_task"}]')
        self.run("UPDATE conversations SET updated_at = now() WHERE id = %s", conversation)
        listed = self.run(
            "SELECT role, content, tool_calls FROM messages WHERE conversation_id = %s ORDER BY created_at ASC",
            conversation,
        )
        assert listed == [("user", text, None), ("agent", "Added.", [{"tool": "add_task"}])]
        of_user = "SELECT id FROM conversations WHERE user_id = %s ORDER BY updated_at DESC"
        assert self.run(of_user, user) == [(conversation,)]
        assert len(self.run("SELECT id FROM messages WHERE user_id = %s", user)) == 2
        self.kept[str(question)] = text

        [(leaving,)] = self.run(
            "INSERT INTO users (email, password_hash) VALUES (%s, 'x') RETURNING id", f"{uuid4()}@example.test"
        )
        [(last,)] = self.run("INSERT INTO conversations (user_id) VALUES (%s) RETURNING id", leaving)
        self.run(insert, last, leaving, "user", "bye", None)
        self.run("DELETE FROM users WHERE id = %s", leaving)
        assert self.run("SELECT id FROM messages WHERE user_id = %s", leaving) == []

    def found(self) -> dict[str, object]:
        every = self.run("SELECT id::text, content FROM messages")
        return {key: content for key, content in every if key in self.kept}


class Service(Todo):
    """The same server under a login that owns nothing; another login counts, and the owner's works beside them."""

    login = "app_rw"

    def open(self) -> None:
        super().open()
        self._reports = psycopg.connect(libpq(self.place.url_of("reporting")), autocommit=True, prepare_threshold=None)
        self._owner = Todo(self.place)

    def close(self) -> None:
        super().close()
        self._reports.close()
        self._owner.close()

    def turn(self) -> None:
        super().turn()
        newest = next(reversed(self.kept))
        report = (
            "SELECT u.email IS NOT NULL, c.title, m.content FROM messages AS m"
            " JOIN conversations AS c ON c.id = m.conversation_id JOIN users AS u ON u.id = m.user_id WHERE m.id = %s"
        )
        assert self._reports.execute(report, [newest]).fetchall() == [(True, None, self.kept[newest])]
        for table in ("users", "tasks", "conversations", "messages"):
            counted = self._reports.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            assert counted is not None
            assert counted[0] > 1
            try:
                self._reports.execute(f"DELETE FROM {table}".encode())
            except psycopg.errors.InsufficientPrivilege:
                continue
            raise AssertionError(f"{table}: whoever only reads has deleted")
        self._owner.turn()


CLIENTS: dict[str, type[Client]] = {
    "1a": SoulPrint,
    "1b": SoulPrintWithConversations,
    "2": Todo,
    "3a": ChatSessions,
    "3b": History,
    "3b-kept": History,
    "4a": Brands,
    "4b": CreativeSessions,
    "5": Profiles,
    "6": Service,
}


class Working:
    """``count`` clients of an application, busy while this is entered."""

    def __init__(self, place: Place, start: str, count: int = 2) -> None:
        self.clients = [CLIENTS[start](place) for _ in range(count)]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=[client], daemon=True) for client in self.clients]

    def __enter__(self) -> Working:
        for thread in self._threads:
            thread.start()
        self.goes_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if error is not None:
            self.close()

    def goes_on(self) -> None:
        """Wait until every client has taken another whole turn."""
        before = [client.turns for client in self.clients]
        wait_for(
            lambda: all(client.turns > turns + 1 for client, turns in zip(self.clients, before, strict=True)),
            "every client to take a turn",
        )

    def check(self) -> None:
        """See :meth:`Client.check`, for each; they disconnect."""
        try:
            for client in self.clients:
                client.check()
        finally:
            self.close()

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def _work(self, client: Client) -> None:
        while not self._stop.is_set():
            client.try_turn()
            time.sleep(0.01)  # a client thinks; without, they leave the machine to nobody else
