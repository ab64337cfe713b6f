-- What has to do with the types $1, as nodes of the letters that traces.sql explains, with names: their arrays, domains over
-- them and composites with them, the relations with columns of these, and the functions that take or return them.
WITH RECURSIVE mine AS MATERIALIZED (
    SELECT oid, nspname FROM pg_namespace
    WHERE nspname <> 'pg_catalog' AND nspname <> 'information_schema' AND nspname !~ '^pg_(toast|temp_|toast_temp_)'
), t(id) AS (
    SELECT unnest($1::oid[])
    UNION
    SELECT x.oid FROM t JOIN LATERAL (
        SELECT y.oid FROM pg_type y WHERE y.typelem = t.id OR y.typbasetype = t.id
        UNION ALL
        SELECT c.reltype FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE a.atttypid = t.id AND a.attnum > 0 AND c.reltype <> 0) x ON true
)
SELECT 't' || y.oid, n.nspname, y.typname FROM t JOIN pg_type y ON y.oid = t.id JOIN mine n ON n.oid = y.typnamespace
UNION ALL
SELECT k.kind || c.oid, n.nspname, c.relname
FROM pg_class c JOIN mine n ON n.oid = c.relnamespace, (VALUES ('r'), ('w')) k(kind)
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND EXISTS (SELECT FROM pg_attribute a JOIN t ON a.atttypid = t.id WHERE a.attrelid = c.oid AND a.attnum > 0)
UNION ALL
SELECT 'f' || p.oid, n.nspname, p.proname FROM pg_proc p JOIN mine n ON n.oid = p.pronamespace
WHERE p.prorettype IN (SELECT id FROM t) OR EXISTS (SELECT FROM t WHERE t.id = ANY (p.proargtypes))
