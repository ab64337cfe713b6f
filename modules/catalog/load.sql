-- What the schema of this database adds to the wording of a statement: kind, schema, name.
--   f  a function that only reads          w  a function that may do more
--   r  a relation that a standby cannot read, or that reaches a function that may do more
--   o  an operator, t  a type that does     a  a cast between built-in types does
-- It follows pg_depend from what may write to what reaches it. The built-in functions are pinned: pg_depend does not
-- know who uses them, so the trees of views and policies are searched for their numbers.
WITH RECURSIVE mine AS MATERIALIZED (
    SELECT oid, nspname FROM pg_namespace
    WHERE nspname <> 'pg_catalog' AND nspname <> 'information_schema' AND nspname !~ '^pg_(toast|temp_|toast_temp_)'
), harmful AS MATERIALIZED (
    SELECT oid FROM pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace AND prorettype <> 'trigger'::regtype
      AND (proname = ANY ($2::name[]) OR provolatile = 'v' AND NOT proname = ANY ($1::name[]))
), pattern AS MATERIALIZED (
    SELECT ':(funcid|opfuncid|aggfnoid|winfnoid) (' || (SELECT string_agg(oid::text, '|') FROM harmful) || ') |:relid ('
        || (SELECT string_agg(oid::text, '|') FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace
            AND (relname ~ '^pg_(stat|statio|replication)_' OR relname IN ('pg_settings', 'pg_file_settings', 'pg_hba_file_rules',
                'pg_locks', 'pg_config', 'pg_cursors', 'pg_prepared_statements', 'pg_prepared_xacts', 'pg_sequences'))
            AND relkind = 'v') || ') ' AS tree
), seeds(class, id) AS (
    SELECT 'pg_proc'::regclass::oid, p.oid FROM pg_proc p JOIN mine n ON n.oid = p.pronamespace
    WHERE p.provolatile = 'v' AND p.prokind <> 'p'
    UNION ALL
    SELECT 'pg_class'::regclass::oid, c.oid FROM pg_class c JOIN mine n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('f', 'S') OR c.relpersistence = 'u' AND c.relkind IN ('r', 'm', 'p')
    UNION ALL
    SELECT 'pg_class'::regclass::oid, c.oid FROM pg_class c JOIN mine n ON n.oid = c.relnamespace
        JOIN pg_rewrite r ON r.ev_class = c.oid AND r.ev_type = '1', pattern
    WHERE c.relkind = 'v' AND r.ev_action::text ~ pattern.tree
    UNION ALL
    SELECT 'pg_class'::regclass::oid, p.polrelid FROM pg_policy p, pattern
    WHERE p.polcmd IN ('*', 'r') AND p.polqual::text ~ pattern.tree
    UNION ALL
    SELECT 'pg_operator'::regclass::oid, o.oid FROM pg_operator o JOIN mine n ON n.oid = o.oprnamespace
    WHERE o.oprcode IN (SELECT oid FROM harmful)
), reach(class, id) AS (
    SELECT class, id FROM seeds
    UNION
    SELECT step.class, step.id FROM reach r CROSS JOIN LATERAL (
        SELECT CASE WHEN w.oid IS NOT NULL OR p.oid IS NOT NULL THEN 'pg_class'::regclass::oid
                WHEN k.oid IS NOT NULL THEN 'pg_type'::regclass::oid ELSE d.classid END AS class,
            coalesce(w.ev_class, p.polrelid, k.contypid, d.objid) AS id
        FROM pg_depend d
            LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid AND w.ev_type = '1'
                AND (SELECT c.relkind FROM pg_class c WHERE c.oid = w.ev_class) = 'v'
            LEFT JOIN pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid AND p.polcmd IN ('*', 'r')
            LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid AND k.contypid <> 0
        WHERE d.refclassid = r.class AND d.refobjid = r.id AND (
            w.oid IS NOT NULL OR p.oid IS NOT NULL OR k.oid IS NOT NULL
            -- a function whose body or defaults say so, an aggregate of it
            OR d.classid = 'pg_proc'::regclass AND r.class IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_operator'::regclass)
            OR d.classid = 'pg_operator'::regclass AND r.class = 'pg_proc'::regclass
            OR d.classid = 'pg_cast'::regclass AND r.class = 'pg_proc'::regclass
            OR d.classid = 'pg_type'::regclass AND r.class = 'pg_proc'::regclass)
        UNION ALL
        SELECT 'pg_class'::regclass::oid, i.inhparent FROM pg_inherits i
        WHERE r.class = 'pg_class'::regclass AND i.inhrelid = r.id
    ) step
), cast_ends AS (
    SELECT t.oid, t.typnamespace <> 'pg_catalog'::regnamespace AS own, k.oid AS cast_id
    FROM reach r JOIN pg_cast k ON r.class = 'pg_cast'::regclass AND k.oid = r.id
        JOIN pg_type t ON t.oid IN (k.castsource, k.casttarget)
), types(id) AS (
    SELECT id FROM reach WHERE class = 'pg_type'::regclass
    UNION
    SELECT oid FROM cast_ends WHERE own
    UNION -- their arrays, domains over them, and composites with them
    SELECT t.oid FROM pg_type t, (SELECT id FROM reach WHERE class = 'pg_type'::regclass UNION SELECT oid FROM cast_ends WHERE own) b
    WHERE t.typelem = b.id OR t.typbasetype = b.id
), writers(id) AS (
    SELECT id FROM reach WHERE class = 'pg_proc'::regclass
    UNION
    SELECT p.oid FROM pg_proc p JOIN types t ON p.prorettype = t.id
)
SELECT CASE WHEN bool_or(w.id IS NOT NULL) THEN 'w' ELSE 'f' END, n.nspname, p.proname
FROM pg_proc p JOIN mine n ON n.oid = p.pronamespace LEFT JOIN writers w ON w.id = p.oid
WHERE p.prokind <> 'p' GROUP BY 2, 3
UNION ALL
-- A function of the user's that shares its name with a built-in one that does more.
SELECT DISTINCT 'w', n.nspname, p.proname FROM pg_proc p JOIN mine n ON n.oid = p.pronamespace
WHERE p.proname IN (SELECT proname FROM pg_proc WHERE oid IN (SELECT oid FROM harmful))
UNION ALL
SELECT 'r', n.nspname, c.relname FROM pg_class c JOIN mine n ON n.oid = c.relnamespace
    JOIN (SELECT id FROM reach WHERE class = 'pg_class'::regclass
    UNION
    SELECT a.attrelid FROM pg_attribute a JOIN types t ON a.atttypid = t.id
    WHERE a.attnum > 0 AND (SELECT count(*) FROM types) > 0
    UNION -- a function of a row can be written like a column of the relation
    SELECT t.typrelid FROM writers w JOIN pg_proc p ON p.oid = w.id JOIN pg_type t ON t.oid = p.proargtypes[0]
    WHERE p.pronargs = 1 AND t.typrelid <> 0) r ON r.id = c.oid
UNION ALL
SELECT 'o', n.nspname, o.oprname FROM pg_operator o JOIN mine n ON n.oid = o.oprnamespace
WHERE o.oid IN (SELECT id FROM reach WHERE class = 'pg_operator'::regclass)
UNION ALL
SELECT 't', n.nspname, t.typname FROM pg_type t JOIN mine n ON n.oid = t.typnamespace WHERE t.oid IN (SELECT id FROM types)
UNION ALL
SELECT 'a', '', '' WHERE EXISTS (SELECT FROM cast_ends GROUP BY cast_id HAVING NOT bool_or(own))
