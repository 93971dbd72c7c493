"""What every function in our SQL says, whichever branch of a revision makes it; the walk reads the catalog besides."""

import re

from tests.migrations.chain import HEAD, Chain
from tests.shadows.functions import unsafe_functions

_HEADER = re.compile(r"CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE) (\S+?)\(.*?\bAS \$", re.DOTALL)
SAFE = "SET search_path = pg_catalog, pg_temp"


def test_every_function_that_is_ever_made_says_its_search_path(chain: Chain) -> None:
    script = chain.upgrade_script("head") + chain.downgrade_script(f"{HEAD}:base")
    made = [(found[1], found[0]) for found in _HEADER.finditer(script)]
    assert len({name for name, _ in made}) > 50
    # called by every statement of a user, as the user: each name in it has its schema instead
    assert [name for name, text in made if SAFE not in text] == ["chat_internal.current_user_id"]


def test_a_function_that_everybody_may_call_as_its_owner_is_seen(chain: Chain) -> None:
    assert unsafe_functions(chain) == set()
    chain.execute(
        "CREATE FUNCTION public.planted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''"
        " AS $$ BEGIN RETURN NULL; END $$"
    )
    assert {found.split("planted() ")[1].partition(":")[0] for found in unsafe_functions(chain)} == {
        "has no safe search_path",
        "runs as its owner and is open to PUBLIC or anon",
        "is a trigger function and is open to PUBLIC or anon",
    }
