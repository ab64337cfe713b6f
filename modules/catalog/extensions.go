package catalog

import (
	"path"

	"github.com/fairwaydb/fairway/modules/pgsql"
)

// extensionTraces are the functions of well-known extensions that leave something in the server connection which no
// cleaning takes away, by the extension and a glob for the function, with its schema where there is a dot in it. Other
// functions of extensions in languages that nobody can read leave nothing.
var extensionTraces = map[string][]string{
	"dblink":           {"dblink_connect", "dblink_connect_u", "dblink_open", "dblink_send_query"},
	"hypopg":           {"hypopg_create_*", "hypopg_hide_index"},
	"orafce":           {"dbms_output.*", "dbms_alert.*", "dbms_random.*", "utl_file.fopen*", "plvdate.*", "plvsubst.*"},
	"pg_trgm":          {"set_limit"},
	"pg_variables":     {"pgv_*"},
	"pldbgapi":         {"pldbg_*"},
	"plprofiler":       {"pl_profiler_*"},
	"session_variable": {"*"},
	"set_user":         {"set_user*", "reset_user", "set_session_auth"},
	"temporal_tables":  {"set_system_time"},
}

// tracesOfExtension is what a function of an extension leaves behind.
func tracesOfExtension(extension, schema, name string) pgsql.Traces {
	for _, glob := range extensionTraces[extension] {
		for _, full := range [...]string{name, schema + "." + name} {
			if ok, _ := path.Match(glob, full); ok {
				return pgsql.Loads
			}
		}
	}
	return 0
}
