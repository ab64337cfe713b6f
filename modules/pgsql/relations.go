package pgsql

import "strings"

// serverRelations are the relations of pg_catalog that tell about the server, beside those that start with pg_stat_,
// pg_statio_ and pg_replication_.
var serverRelations = map[string]bool{
	"pg_settings": true, "pg_file_settings": true, "pg_hba_file_rules": true, "pg_ident_file_mappings": true,
	"pg_locks": true, "pg_config": true, "pg_cursors": true, "pg_prepared_statements": true, "pg_prepared_xacts": true,
	"pg_shmem_allocations": true, "pg_shmem_allocations_numa": true, "pg_backend_memory_contexts": true,
	"pg_available_extensions": true, "pg_available_extension_versions": true, "pg_wait_events": true, "pg_aios": true,
	"pg_dsm_registry_allocations": true,
}

// relationKind is what a relation's name tells.
type relationKind uint8

const (
	userRelation      relationKind = iota // anything that may be a table of the user
	catalogRelation                       // the same on every server
	aboutRelation                         // tells about the server
	sequencesRelation                     // reads sequences, which a standby cannot
	tempRelation                          // lives in one server connection
)

// relationOf tells what a relation is by its name. Schemas that start with pg_ are PostgreSQL's own; tables that do
// may be the user's, but are taken for catalogs: the other answer would matter only beside a function about the server.
func relationOf(schema, name string) relationKind {
	switch {
	case isTempSchema(schema):
		return tempRelation
	case schema == "information_schema", strings.HasPrefix(schema, "pg_toast"):
		return catalogRelation
	case schema != "" && schema != "pg_catalog", !strings.HasPrefix(name, "pg_"):
		// pg_stat_statements may be installed anywhere.
		if strings.HasPrefix(name, "pg_stat_statements") {
			return aboutRelation
		}
		return userRelation
	case name == "pg_sequences":
		return sequencesRelation
	case serverRelations[name], strings.HasPrefix(name, "pg_stat_"), strings.HasPrefix(name, "pg_statio_"),
		strings.HasPrefix(name, "pg_replication_"):
		return aboutRelation
	}
	return catalogRelation
}

// isTempSchema tells that the schema is that of the session's temporary relations, or of another session's.
func isTempSchema(schema string) bool {
	return schema == "pg_temp" || strings.HasPrefix(schema, "pg_temp_")
}
