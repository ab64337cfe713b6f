package cluster

import (
	"context"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/pool"
)

// Defaults are what one server sets for new sessions, by user and database, besides its configuration, and who may begin one:
// immutable. See https://www.postgresql.org/docs/current/catalog-pg-db-role-setting.html
type Defaults struct {
	version   uint64               // unlike that of any other
	signal    string               // what the probe compares
	roles     map[string]string    // identity and rights of the roles that log in, by name
	databases map[string]string    // identity, limits and privileges of the databases, by name
	settings  map[[2]string]string // name=value, each ended by a zero byte, by user and database; "" is all of them
}

// The signal changes with everything that decides how a new session begins, or whether it may: the settings of roles and databases,
// the roles and databases themselves, memberships, and the configuration. All of it may be read by everybody, and is small.
const signalColumn = `,
 (SELECT pg_catalog.concat_ws(',', pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtext(d::pg_catalog.text)))
    FROM pg_catalog.pg_db_role_setting d)
 || ';' || (SELECT pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat_ws(',', rolname::pg_catalog.text, ` + roleColumns + `, rolcanlogin)))
    FROM pg_catalog.pg_roles)
 || ';' || (SELECT pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat_ws(',', datname::pg_catalog.text, ` + databaseColumns + `)))
    FROM pg_catalog.pg_database)
 || ';' || (SELECT pg_catalog.concat_ws(',', pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtext(m::pg_catalog.text)))
    FROM pg_catalog.pg_auth_members m)
 || ';' || pg_catalog.pg_conf_load_time()`

// What a server looks at before it lets a session begin. See
// https://www.postgresql.org/docs/current/catalog-pg-database.html and https://www.postgresql.org/docs/current/view-pg-roles.html.
const (
	roleColumns = `oid, rolsuper, rolinherit, rolconnlimit,
      rolvaliduntil OPERATOR(pg_catalog.<=) pg_catalog.now()`
	databaseColumns = `oid, datdba, datallowconn, datconnlimit, datacl::pg_catalog.text`
)

// A role has the privileges of those it is a member of, of those that they are members of, and so on.
const defaultsSQL = `WITH RECURSIVE above (role, next, grant_) AS (
  SELECT m.member, m.roleid, m::pg_catalog.text FROM pg_catalog.pg_auth_members m
  UNION SELECT a.role, m.roleid, m::pg_catalog.text FROM above a JOIN pg_catalog.pg_auth_members m ON m.member OPERATOR(pg_catalog.=) a.next)
SELECT '', rolname::pg_catalog.text, '', pg_catalog.concat_ws(',', ` + roleColumns + `,
   (SELECT pg_catalog.string_agg(grant_, ',' ORDER BY grant_) FROM above WHERE role OPERATOR(pg_catalog.=) r.oid))
 FROM pg_catalog.pg_roles r WHERE rolcanlogin
UNION ALL SELECT 'd', '', datname::pg_catalog.text, pg_catalog.concat_ws(',', ` + databaseColumns + `) FROM pg_catalog.pg_database
UNION ALL SELECT 's', COALESCE(r.rolname::pg_catalog.text, ''), COALESCE(d.datname::pg_catalog.text, ''), c
 FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) c LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
 LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
 WHERE (s.setrole = 0 OR r.oid IS NOT NULL) AND (s.setdatabase = 0 OR d.oid IS NOT NULL)`

// of is what the server sets for one identity and why it lets it in; two of them are equal when its sessions begin alike.
func (d *Defaults) of(id pool.Identity) string {
	return d.roles[id.User] + "\x00" + d.databases[id.Database] + "\x00" + d.settings[[2]string{id.User, id.Database}] +
		"\x00" + d.settings[[2]string{id.User, ""}] + "\x00" + d.settings[[2]string{"", id.Database}] + "\x00" + d.settings[[2]string{"", ""}]
}

// defaultsRead gives out the versions.
var defaultsRead atomic.Uint64

// Version is a number that other defaults do not have, 0 for a nil d: who keeps it need not keep all of d.
func (d *Defaults) Version() uint64 {
	if d == nil {
		return 0
	}
	return d.version
}

// For returns the settings of one identity's new sessions by name in lower case, nil when it has none of its own.
// See https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-SQL for what goes before what.
func (d *Defaults) For(id pool.Identity) map[string]string {
	if d == nil {
		return nil
	}
	var all map[string]string
	for _, key := range [][2]string{{"", ""}, {"", id.Database}, {id.User, ""}, {id.User, id.Database}} {
		for setting := range strings.SplitSeq(d.settings[key], "\x00") {
			if name, value, ok := strings.Cut(setting, "="); ok {
				if all == nil {
					all = make(map[string]string)
				}
				all[strings.ToLower(name)] = value
			}
		}
	}
	return all
}

// learnDefaults reads the defaults anew when the signal has moved, and returns the last ones read. A failure says nothing about the
// server, which has just answered: it is tried again at the next probe.
func (p *serverProber) learnDefaults(ctx context.Context, signal string) *Defaults {
	if signal == "" || p.defaults != nil && p.defaults.signal == signal {
		return p.defaults
	}
	d := &Defaults{
		version: defaultsRead.Add(1), signal: signal,
		roles: make(map[string]string), databases: make(map[string]string), settings: make(map[[2]string]string),
	}
	err := p.l.query(ctx, "", defaultsSQL, nil, func(v [][]byte) error {
		switch {
		case len(v) != 4:
			return ErrProtocol
		case len(v[0]) == 0:
			d.roles[string(v[1])] = string(v[3])
		case v[0][0] == 'd':
			d.databases[string(v[2])] = string(v[3])
		default:
			d.settings[[2]string{string(v[1]), string(v[2])}] += string(v[3]) + "\x00"
		}
		return nil
	})
	if err == nil {
		p.defaults = d
	} else if p.l.broken {
		p.close()
	}
	return p.defaults
}

// foldDefaults follows a change of what a server sets for new sessions. Server connections that began otherwise are not lent again,
// and what servers said to logins is forgotten. The replicas are asked at once: they follow.
func (r *run) foldDefaults(e *entry, before, now *Defaults) {
	if now == nil || before == nil || before == now {
		return
	}
	e.backend.set.RetireOnly(func(id pool.Identity) bool { return before.of(id) != now.of(id) })
	r.c.began.Add(1)
	r.c.logger().Debug("settings of new sessions have changed", zap.String("cluster", r.c.name), zap.String("backend", e.backend.name))
	for _, other := range r.entries {
		if other != e && other.facts.at.recovery {
			other.backend.wake()
		}
	}
}

// Beginnings counts the changes of what the servers set for new sessions, of roles and of databases. What a server said to a login
// holds for the next one while it stands still.
func (c *Cluster) Beginnings() uint64 { return c.began.Load() }

// Defaults returns what the primary sets for new sessions, as last seen; nil before the first probe. It costs one atomic load.
func (c *Cluster) Defaults() *Defaults { return c.defaults.Load() }
