package demo

// What the demo's configuration names, so that it can be loaded wherever the command is.
import (
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
	_ "github.com/caddyserver/caddy/v2/modules/metrics"
	_ "github.com/mholt/caddy-l4/layer4"

	_ "github.com/fairwaydb/fairway/modules/postgres"
)
