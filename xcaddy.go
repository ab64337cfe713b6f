// Package fairway is what `xcaddy build --with github.com/fairwaydb/fairway`
// pulls in: a PostgreSQL load balancer made of Caddy modules. It has no code of
// its own. See modules/postgres for the app and docs/architecture.md for the
// whole.
package fairway

import (
	// The app layer4 with all its matchers and handlers: proxy_protocol, for one,
	// may stand before ours.
	_ "github.com/mholt/caddy-l4"

	_ "github.com/fairwaydb/fairway/modules/command"
	_ "github.com/fairwaydb/fairway/modules/demo"
	_ "github.com/fairwaydb/fairway/modules/dns"
	_ "github.com/fairwaydb/fairway/modules/docker"
	_ "github.com/fairwaydb/fairway/modules/postgres"
)
