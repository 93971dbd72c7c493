"""Functions that a client's SQL could reach, as the catalog has them."""

from tests.migrations.chain import Chain

_UNSAFE = """
    WITH own AS (
      SELECT p.oid, p.proacl, p.prosecdef, p.proconfig, p.proowner, p.prosrc,
        p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype AS is_trigger
      FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname IN ('public', 'chat_internal')
    ), open AS (
      SELECT DISTINCT o.oid FROM own AS o,
        pg_catalog.aclexplode(coalesce(o.proacl, pg_catalog.acldefault('f', o.proowner))) AS x
      LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = x.grantee
      WHERE x.grantee = 0 OR r.rolname = 'anon'
    )
    SELECT pg_catalog.format('%s has no safe search_path: %s', o.oid::pg_catalog.regprocedure, o.prosrc)
    FROM own AS o WHERE NOT coalesce(o.proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']
      AND (o.prosecdef OR o.oid IS DISTINCT FROM pg_catalog.to_regprocedure('chat_internal.current_user_id()'))
    UNION ALL
    SELECT pg_catalog.format('%s runs as its owner and is open to PUBLIC or anon: %s',
                             o.oid::pg_catalog.regprocedure, o.prosrc)
    FROM own AS o JOIN open USING (oid) WHERE o.prosecdef
    UNION ALL
    SELECT pg_catalog.format('%s is a trigger function and is open to PUBLIC or anon: %s',
                             o.oid::pg_catalog.regprocedure, o.prosrc)
    FROM own AS o JOIN open USING (oid) WHERE o.is_trigger
"""


def unsafe_functions(admin: Chain) -> set[str]:
    """Name each function without our search_path, and each that is open to everybody and must not be.

    The text goes with the name: a function of the application is its own until the chain replaces it.
    """
    return set(admin.rows(_UNSAFE))


_CODE = """
    SELECT pg_catalog.md5(pg_catalog.string_agg(c.text, ' ' ORDER BY c.text)) FROM (
      SELECT pg_catalog.concat(p.oid::pg_catalog.regprocedure, p.prosrc, p.prosecdef, p.proconfig)
      FROM pg_catalog.pg_proc AS p WHERE p.oid >= 16384
      UNION ALL SELECT pg_catalog.pg_get_triggerdef(t.oid) FROM pg_catalog.pg_trigger AS t WHERE NOT t.tgisinternal
      UNION ALL SELECT pg_catalog.concat(p.polname, p.polrelid::pg_catalog.regclass, p.polcmd, p.polroles,
        pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
      FROM pg_catalog.pg_policy AS p
      UNION ALL SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef AS d
      UNION ALL SELECT pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint AS k
        WHERE k.contype IN ('c', 'f') AND k.conrelid >= 16384
      UNION ALL SELECT pg_catalog.pg_get_viewdef(r.ev_class) FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class >= 16384
    ) AS c (text)
"""


def code(admin: Chain) -> str:
    """Return a digest of all that a statement can run: functions, triggers, policies, defaults, CHECKs, keys, views."""
    return str(admin.value(_CODE))
