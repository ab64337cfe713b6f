package pgsql

import (
	_ "embed"
	"path"
	"slices"
	"strings"
	"sync"

	pgquery "github.com/pganalyze/pg_query_go/v6"
)

// functionsList names the built-in functions that only read, one a line; functions.sql makes it.
//
//go:generate psql -X -At -o functions.txt -f functions.sql
//go:embed functions.txt
var functionsList string

// builtin is what a function of pg_catalog does. The zero value only reads.
type builtin struct {
	effects Effects
	// ends is what the call surely ends.
	ends Effects
	// about: it tells about the server it runs on, which matters if no table of the user is read (behaviour 4a).
	about bool
	// sets: it changes a setting that its first argument names.
	sets bool
}

// recentReads are functions that only read and that functions.txt, made from an older server, does not have; and the
// harmless ones among the volatile.
const recentReads = `
	clock_timestamp timeofday random random_normal gen_random_uuid uuidv4 uuidv7 current_query
	pg_sleep pg_sleep_for pg_sleep_until
	pg_relation_size pg_table_size pg_indexes_size pg_total_relation_size pg_database_size pg_tablespace_size
	pg_partition_tree pg_partition_ancestors pg_jit_available
	pg_collation_actual_version pg_database_collation_actual_version

	any_value array_sample array_shuffle date_add date_subtract erf erfc pg_input_is_valid pg_input_error_info
	system_user json_agg_strict json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict
	jsonb_agg_strict jsonb_object_agg_strict jsonb_object_agg_unique jsonb_object_agg_unique_strict
	unicode_version icu_unicode_version unicode_assigned

	to_bin to_oct uuid_extract_timestamp uuid_extract_version pg_basetype to_regtypemod xmltext
	pg_column_toast_chunk_id

	casefold crc32 crc32c array_reverse array_sort gamma lgamma pg_get_acl has_largeobject_privilege`

// aboutServer are the functions whose answer differs between servers, harmless beside a table of the user.
const aboutServer = `
	pg_is_in_recovery pg_backend_pid inet_server_addr inet_server_port inet_client_addr inet_client_port
	pg_postmaster_start_time pg_conf_load_time version current_setting
	pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_is_wal_replay_paused
	pg_get_wal_replay_pause_state pg_show_all_settings pg_config pg_current_logfile
	pg_available_extensions pg_available_extension_versions pg_extension_update_paths
	pg_get_replication_slots pg_show_replication_origin_status pg_replication_origin_oid
	pg_lock_status pg_blocking_pids pg_safe_snapshot_blocking_pids pg_prepared_xact
	pg_get_shmem_allocations pg_get_backend_memory_contexts pg_get_wait_events
	pg_hba_file_rules pg_ident_file_mappings pg_show_all_file_settings pg_get_wal_resource_managers`

// serverOnly act on the server, or answer differently even beside a table: files, log positions, transaction ids,
// sequences, and what belongs to the session's own connection.
const serverOnly = `
	pg_current_wal_lsn pg_current_wal_insert_lsn pg_current_wal_flush_lsn pg_walfile_name pg_walfile_name_offset
	pg_split_walfile_name pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system
	pg_read_file pg_read_binary_file pg_read_file_old pg_stat_file pg_ls_dir pg_ls_logdir pg_ls_waldir pg_ls_tmpdir
	pg_ls_archive_statusdir pg_ls_logicalmapdir pg_ls_logicalsnapdir pg_ls_replslotdir pg_ls_summariesdir
	pg_available_wal_summaries pg_wal_summary_contents pg_get_wal_summarizer_state
	pg_reload_conf pg_rotate_logfile pg_rotate_logfile_old pg_promote pg_wal_replay_pause pg_wal_replay_resume
	pg_cancel_backend pg_terminate_backend pg_log_backend_memory_contexts
	pg_last_committed_xact pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_xact_status txid_status
	pg_current_xact_id_if_assigned txid_current_if_assigned pg_current_snapshot txid_current_snapshot
	pg_get_multixact_members pg_sequence_last_value pg_get_sequence_data
	pg_cursor pg_prepared_statement pg_listening_channels pg_notification_queue_usage
	pg_stat_clear_snapshot pg_stat_force_next_flush pg_stat_have_stats
	pg_replication_origin_progress pg_replication_origin_session_is_setup pg_replication_origin_session_progress
	cursor_to_xml cursor_to_xmlschema`

// writing change data, files or the log, or take a transaction id; some though they are declared stable.
const writing = `
	nextval setval txid_current pg_current_xact_id pg_export_snapshot pg_import_system_collations
	lo_close lo_creat lo_create lo_export lo_from_bytea lo_get lo_import lo_lseek lo_lseek64 lo_open lo_put lo_tell
	lo_tell64 lo_truncate lo_truncate64 lo_unlink loread lowrite
	pg_switch_wal pg_create_restore_point pg_log_standby_snapshot pg_logical_emit_message
	pg_drop_replication_slot pg_replication_slot_advance pg_sync_replication_slots
	pg_logical_slot_get_changes pg_logical_slot_get_binary_changes
	pg_logical_slot_peek_changes pg_logical_slot_peek_binary_changes
	pg_replication_origin_create pg_replication_origin_drop pg_replication_origin_advance
	brin_summarize_new_values brin_summarize_range brin_desummarize_range gin_clean_pending_list
	pg_extension_config_dump pg_restore_relation_stats pg_restore_attribute_stats
	pg_clear_relation_stats pg_clear_attribute_stats`

// connectionState leaves something in the server connection that none of the other effects names.
const connectionState = `
	setseed pg_backup_start pg_start_backup
	pg_create_physical_replication_slot pg_create_logical_replication_slot
	pg_copy_physical_replication_slot pg_copy_logical_replication_slot
	pg_replication_origin_session_setup pg_replication_origin_session_reset
	pg_replication_origin_xact_setup pg_replication_origin_xact_reset`

// notReads are in functions.txt but not for us: they read relations that the text does not name, or only work where
// a client cannot call them.
const notReads = `
	table_to_xml table_to_xmlschema table_to_xml_and_xmlschema schema_to_xml schema_to_xmlschema
	schema_to_xml_and_xmlschema database_to_xml database_to_xmlschema database_to_xml_and_xmlschema
	pg_event_trigger_ddl_commands pg_event_trigger_dropped_objects pg_event_trigger_table_rewrite_oid
	pg_event_trigger_table_rewrite_reason`

// builtins is the table of the functions of pg_catalog that are known, made once.
var builtins = sync.OnceValue(func() map[string]builtin {
	table := make(map[string]builtin, 2400)
	set := func(names string, b builtin) {
		for _, name := range strings.Fields(names) {
			table[name] = b
		}
	}
	set(functionsList, builtin{})
	for _, name := range strings.Fields(notReads) {
		delete(table, name)
	}
	set(recentReads, builtin{})
	set(aboutServer, builtin{about: true})
	set(serverOnly, builtin{effects: ServerState})
	set(writing, builtin{effects: Write})
	set(connectionState, builtin{effects: Load | ServerState})
	set("pg_backup_stop pg_stop_backup", builtin{effects: Write | Discard})
	set("currval lastval", builtin{effects: Sequence})
	set("pg_notify", builtin{effects: Notify})
	set("pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared",
		builtin{effects: AdvisoryLock})
	set("pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared",
		builtin{effects: RowLock})
	set("pg_advisory_unlock pg_advisory_unlock_shared", builtin{effects: Discard})
	set("pg_advisory_unlock_all", builtin{effects: Discard, ends: AdvisoryLock})
	// These run SQL that is in their arguments.
	set("query_to_xml query_to_xmlschema query_to_xml_and_xmlschema ts_stat ts_rewrite", builtin{effects: Write | Unknown})
	set("set_config", builtin{effects: Settings, sets: true})
	return table
})

// Harmless returns the functions of pg_catalog that only read, whatever the catalog says of their volatility.
func Harmless() []string {
	return namesOf(func(b builtin) bool { return b.effects == 0 && b.ends == 0 && !b.sets })
}

// Harmful returns the functions of pg_catalog that do more than read or belong to the primary, whatever the catalog says
// of their volatility.
func Harmful() []string {
	return namesOf(func(b builtin) bool { return b.effects != 0 || b.ends != 0 || b.sets })
}

// namesOf returns the names of the built-in functions that match, sorted.
func namesOf(match func(builtin) bool) []string {
	var names []string
	for name, b := range builtins() {
		if match(b) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// lookup returns what a function of pg_catalog does. A name without schema counts as that of pg_catalog: it is searched
// first unless search_path says otherwise, but an overload of the user's may fit the arguments better. Only the
// catalog can tell; until it is asked, a read that writes corrects itself (behaviour 9).
func lookup(name string) (builtin, bool) {
	b, ok := builtins()[name]
	if !ok {
		switch {
		case strings.HasPrefix(name, "pg_stat_get_"):
			return builtin{about: true}, true
		case strings.HasPrefix(name, "pg_stat_reset"):
			return builtin{effects: ServerState}, true
		}
		return b, false
	}
	if b == (builtin{}) && strings.HasPrefix(name, "pg_stat_get_") {
		b.about = true
	}
	return b, true
}

// functionName returns the schema, if written, and the name of the function called.
func functionName(n *pgquery.FuncCall) (schema, name string) {
	for _, part := range n.GetFuncname() {
		schema, name = name, part.GetString_().GetSval()
	}
	return schema, name
}

// matches tells that one of the globs fits the name, with or without schema. A bad pattern fits nothing.
func matches(globs []string, schema, name string) bool {
	for _, glob := range globs {
		if ok, _ := path.Match(glob, name); ok {
			return true
		}
		if schema != "" {
			if ok, _ := path.Match(glob, schema+"."+name); ok {
				return true
			}
		}
	}
	return false
}
