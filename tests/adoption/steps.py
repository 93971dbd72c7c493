"""An event trigger that lets one DDL command of a migration fail, or wait until the test has killed the migration."""

from __future__ import annotations

from tests.live.command_line import Run, wait_for
from tests.migrations.chain import Chain

# The command is the one at a place among those that begin a transaction of their own: what came before is committed.
_PLANTED = """
    CREATE SCHEMA planted;
    CREATE SEQUENCE planted.steps;
    CREATE SEQUENCE planted.reached;
    CREATE TABLE planted.step (place bigint NOT NULL, waits boolean NOT NULL);
    CREATE FUNCTION planted.stop() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE
      v_waits boolean;
    BEGIN
      IF current_setting('application_name') = 'chat-schema' AND pg_current_xact_id_if_assigned() IS NULL THEN
        SELECT s.waits INTO v_waits FROM planted.step AS s WHERE s.place = nextval('planted.steps');
        IF NOT v_waits THEN
          RAISE EXCEPTION 'planted: % fails', tg_tag;
        ELSIF v_waits THEN
          PERFORM nextval('planted.reached');
          WHILE EXISTS (SELECT FROM planted.step) LOOP
            PERFORM pg_sleep(0.01);
          END LOOP;
        END IF;
      END IF;
    END
    $$;
    CREATE EVENT TRIGGER planted ON ddl_command_start EXECUTE FUNCTION planted.stop();
"""


class Steps:
    """The steps of the migrations of a database; ``chain`` is a superuser's."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        chain.execute(_PLANTED)

    def fail_at(self, place: int) -> None:
        """Let the next run fail at this step, counted from 1."""
        self._begin(place, waits=False)

    def wait_at(self, place: int) -> None:
        """Let the next run stop at this step until :meth:`kill` has killed it."""
        self._begin(place, waits=True)

    def kill(self, run: Run) -> bool:
        """Kill ``run`` at its step; return False where it ended before."""
        reached = "SELECT is_called FROM planted.reached"
        wait_for(lambda: self._chain.value(reached) or not run.goes_on, "the step", lambda: run.output)
        if not self._chain.value(reached):
            return False
        run.kill()
        self._chain.execute("DELETE FROM planted.step")
        return True

    def remove(self) -> None:
        self._chain.execute("DROP EVENT TRIGGER planted; DROP SCHEMA planted CASCADE")

    def _begin(self, place: int, *, waits: bool) -> None:
        self._chain.execute(
            "DELETE FROM planted.step; ALTER SEQUENCE planted.steps RESTART; ALTER SEQUENCE planted.reached RESTART;"
            f" INSERT INTO planted.step VALUES ({place}, {waits})"
        )
