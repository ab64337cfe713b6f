-- What code reaches what other code, as rows of kind, a, b, schema, name. A node is a letter and a number of an object:
-- f a function, o an operator, t a type, r a relation that is read, w one that is written; e is every change of the
-- schema, a every statement at all.
--   n  node a has a name; b is u when nobody can read the language, x and the extension when an extension brought it
--   e  a reaches b
--   d  a leaves what $b stands for: a built-in function of that parameter is in its tree
-- The built-in functions are pinned: pg_depend does not know who uses them. Objects of PostgreSQL's own have numbers
-- below 16384.
WITH mine AS MATERIALIZED (
    SELECT oid, nspname FROM pg_namespace
    WHERE nspname <> 'pg_catalog' AND nspname <> 'information_schema' AND nspname !~ '^pg_(toast|temp_|toast_temp_)'
), leaving AS MATERIALIZED (
    SELECT k.bit, p.oid, p.prosrc FROM (VALUES ('1', $1::name[]), ('2', $2::name[]), ('3', $3::name[]), ('4', $4::name[])) k(bit, list)
        JOIN pg_proc p ON p.proname = ANY (k.list)
    WHERE p.pronamespace = 'pg_catalog'::regnamespace
), pattern AS MATERIALIZED (
    SELECT bit, ':funcid (' || string_agg(oid::text, '|') || ') ' AS tree FROM leaving GROUP BY bit
), whole AS MATERIALIZED (
    SELECT ':funcid (' || string_agg(oid::text, '|') || ') ' AS tree FROM leaving
), rules AS MATERIALIZED (
    SELECT r.oid, r.ev_class AS rel, r.ev_type = '1' AND c.relkind = 'v' AS view,
        CASE WHEN r.ev_type = '1' AND c.relkind = 'v' THEN 'r' ELSE 'w' END || r.ev_class AS node, r.ev_action, r.ev_qual
    FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE r.oid >= 16384
), policies AS MATERIALIZED (
    SELECT oid, CASE WHEN polcmd IN ('*', 'r') THEN 'r' ELSE 'w' END || polrelid AS node, polqual, polwithcheck FROM pg_policy
), uses AS MATERIALIZED ( -- of functions and operators of the user's
    SELECT d.classid, d.objid, CASE WHEN d.refclassid = 'pg_proc'::regclass THEN 'f' ELSE 'o' END || d.refobjid AS node
    FROM pg_depend d
    WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.refobjid >= 16384
), edges(a, b) AS MATERIALIZED (
    SELECT CASE classid WHEN 'pg_proc'::regclass THEN 'f' WHEN 'pg_operator'::regclass THEN 'o' ELSE 't' END || objid, node
    FROM uses WHERE classid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)
    UNION ALL
    SELECT 'e', node FROM uses WHERE classid = 'pg_event_trigger'::regclass
    UNION ALL
    SELECT 'w' || t.tgrelid, u.node FROM uses u JOIN pg_trigger t ON t.oid = u.objid WHERE u.classid = 'pg_trigger'::regclass
    UNION ALL
    SELECT 'w' || a.adrelid, u.node FROM uses u JOIN pg_attrdef a ON a.oid = u.objid WHERE u.classid = 'pg_attrdef'::regclass
    UNION ALL
    SELECT CASE WHEN k.contypid <> 0 THEN 't' || k.contypid ELSE 'w' || k.conrelid END, u.node
    FROM uses u JOIN pg_constraint k ON k.oid = u.objid WHERE u.classid = 'pg_constraint'::regclass
    UNION ALL -- an index, or the key of a partitioned table
    SELECT 'w' || coalesce(i.indrelid, u.objid), u.node
    FROM uses u LEFT JOIN pg_index i ON i.indexrelid = u.objid WHERE u.classid = 'pg_class'::regclass
    UNION ALL
    SELECT CASE WHEN t.id < 16384 THEN 'a' ELSE 't' || t.id END, u.node
    FROM uses u JOIN pg_cast k ON k.oid = u.objid,
        LATERAL (SELECT k.castsource WHERE k.castsource >= 16384 OR k.casttarget < 16384
            UNION ALL SELECT k.casttarget WHERE k.casttarget >= 16384) t(id)
    WHERE u.classid = 'pg_cast'::regclass
    UNION ALL
    SELECT r.node, u.node FROM uses u JOIN rules r ON r.oid = u.objid WHERE u.classid = 'pg_rewrite'::regclass
    UNION ALL
    SELECT p.node, u.node FROM uses u JOIN policies p ON p.oid = u.objid WHERE u.classid = 'pg_policy'::regclass
    UNION ALL -- a view reads what it is made of, and may be written through
    SELECT k.kind || r.rel, k.kind || d.refobjid
    FROM rules r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
        AND d.refobjid <> r.rel, (VALUES ('r'), ('w')) k(kind)
    WHERE r.view OR k.kind = 'w'
    UNION ALL
    SELECT p.node, 'r' || d.refobjid
    FROM policies p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass
    UNION ALL -- the body of BEGIN ATOMIC
    SELECT 'f' || p.oid, 'w' || d.refobjid
    FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass
    WHERE p.prosrc = '' AND p.oid >= 16384
    UNION ALL -- a function of a row can be written like a column of the relation
    SELECT 'r' || t.typrelid, 'f' || p.oid
    FROM pg_proc p JOIN pg_type t ON t.oid = p.proargtypes[0] WHERE p.pronargs = 1 AND p.proargtypes[0] >= 16384 AND t.typrelid <> 0
    UNION ALL
    SELECT k.kind || i.inhparent, k.kind || i.inhrelid FROM pg_inherits i, (VALUES ('r'), ('w')) k(kind)
    UNION ALL -- ON DELETE CASCADE and the like
    SELECT 'w' || confrelid, 'w' || conrelid FROM pg_constraint
    WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
), trees(a, tree) AS (
    SELECT node, ev_action::text FROM rules
    UNION ALL
    SELECT node, ev_qual::text FROM rules WHERE NOT view
    UNION ALL
    SELECT node, polqual::text FROM policies
    UNION ALL
    SELECT node, polwithcheck::text FROM policies
    UNION ALL
    SELECT 'w' || adrelid, adbin::text FROM pg_attrdef
    WHERE adbin::text NOT LIKE '%:funcid ' || 'pg_catalog.nextval(regclass)'::regprocedure::oid || ' %' -- a serial: most are
    UNION ALL
    SELECT CASE WHEN contypid <> 0 THEN 't' || contypid ELSE 'w' || conrelid END, conbin::text FROM pg_constraint
    WHERE contype = 'c' AND oid >= 16384
    UNION ALL
    SELECT 'w' || tgrelid, tgqual::text FROM pg_trigger WHERE tgqual IS NOT NULL
    UNION ALL
    SELECT 'f' || oid, proargdefaults::text FROM pg_proc WHERE proargdefaults IS NOT NULL AND oid >= 16384
), direct(a, bit) AS MATERIALIZED (
    SELECT t.a, p.bit FROM trees t JOIN whole w ON t.tree ~ w.tree JOIN pattern p ON t.tree ~ p.tree
    UNION ALL
    SELECT 'o' || o.oid, l.bit FROM pg_operator o JOIN leaving l ON l.oid = o.oprcode
)
SELECT 'e', a, b, '', '' FROM edges
UNION ALL
SELECT 'd', a, bit, '', '' FROM direct
UNION ALL
SELECT 'n', 'f' || p.oid, CASE WHEN l.lanname IN ('sql', 'plpgsql') OR p.prokind = 'a' THEN ''
        WHEN l.lanname = 'internal' THEN CASE WHEN p.prosrc IN (SELECT prosrc FROM leaving) THEN 'u' ELSE '' END
        ELSE coalesce((SELECT 'x' || e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
            WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'), 'u') END, n.nspname, p.proname
FROM pg_proc p JOIN mine n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
UNION ALL
SELECT 'n', 'o' || o.oid, '', n.nspname, o.oprname
FROM pg_operator o JOIN mine n ON n.oid = o.oprnamespace
UNION ALL
SELECT 'n', 't' || t.oid, '', n.nspname, t.typname
FROM pg_type t JOIN mine n ON n.oid = t.typnamespace
WHERE t.oid IN (SELECT substr(a, 2)::oid FROM (SELECT a FROM edges UNION ALL SELECT a FROM direct) x WHERE a LIKE 't%')
UNION ALL
SELECT 'n', 'w' || c.oid, '', n.nspname, c.relname
FROM pg_class c JOIN mine n ON n.oid = c.relnamespace
WHERE c.oid IN (SELECT substr(a, 2)::oid FROM (SELECT a FROM edges UNION ALL SELECT a FROM direct) x WHERE a LIKE 'r%' OR a LIKE 'w%')
