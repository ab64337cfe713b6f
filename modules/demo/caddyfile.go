package demo

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// caddyfile is the demo's configuration: the smallest that serves a cluster, with all that Caddy would write to the
// user's directories sent to the demo's own. There is no password in it, for its servers trust the loopback interface.
func (d *demo) caddyfile() string {
	var backends strings.Builder
	for _, n := range d.cluster.Nodes() {
		fmt.Fprintf(&backends, "\t\t\tbackend %s %s\n", n.Name(), n.Addr())
	}
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	storage file_system %s
	log default {
		output file %s
	}
	postgres {
		cluster %s {
%s			credentials %s
			auth trust
		}
	}
	layer4 {
		pg/%s {
			route {
				postgres %s
			}
		}
	}
}
`, d.admin, strconv.Quote(filepath.Join(d.dir, "caddy")), strconv.Quote(filepath.Join(d.dir, "caddy.log")),
		clusterName, backends.String(), monitorRole, d.addr, clusterName)
}
