-- The built-in functions that only read, as the catalog says: every overload in pg_catalog is immutable or stable and
-- can be called from SQL. functions.go takes away those that write all the same. `go generate` writes functions.txt
-- from the server that psql finds (PGHOST and so on).
SELECT proname
FROM pg_catalog.pg_proc p
WHERE pronamespace = 'pg_catalog'::pg_catalog.regnamespace
GROUP BY proname
HAVING pg_catalog.bool_and(provolatile IN ('i', 's'))
   AND pg_catalog.bool_or(prorettype NOT IN ('internal'::pg_catalog.regtype, 'trigger'::pg_catalog.regtype,
           'event_trigger'::pg_catalog.regtype, 'language_handler'::pg_catalog.regtype,
           'fdw_handler'::pg_catalog.regtype, 'index_am_handler'::pg_catalog.regtype,
           'table_am_handler'::pg_catalog.regtype, 'tsm_handler'::pg_catalog.regtype)
       AND 'internal'::pg_catalog.regtype <> ALL (proargtypes::pg_catalog.oid[]))
ORDER BY proname COLLATE "C";
