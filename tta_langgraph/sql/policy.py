"""What a statement may contain, per dialect: the names, kept apart from the code that applies them."""

from __future__ import annotations

from sqlglot import exp

DIALECTS: dict[str, str] = {
    "sqlite": "sqlite",
    "postgresql": "postgres",
    "mysql": "mysql",
    "mariadb": "mysql",
    "duckdb": "duckdb",
    "mssql": "tsql",
    "oracle": "oracle",
    "snowflake": "snowflake",
    "bigquery": "bigquery",
    "redshift": "redshift",
    "databricks": "databricks",
    "trino": "trino",
    "presto": "presto",
    "clickhouse": "clickhouse",
    "clickhousedb": "clickhouse",
    "hive": "hive",
    "awsathena": "athena",
    "teradatasql": "teradata",
    "doris": "doris",
    "starrocks": "starrocks",
}
"""SQLAlchemy's dialect name to sqlglot's."""

DEEP = frozenset({"sqlite", "postgres", "mysql", "duckdb"})
"""Dialects with a backend that also holds the engine to reading. The others run in the stricter fallback mode."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _nodes(*names: str) -> tuple[type[exp.Expr], ...]:
    found = [getattr(exp, name, None) for name in names]
    return tuple(node for node in found if node is not None)


FORBIDDEN_NODES = _nodes(
    *("Insert", "Update", "Delete", "Merge", "Create", "Drop", "Undrop", "Alter", "TruncateTable", "Copy", "Put"),
    *(
        "Get",
        "LoadData",
        "Export",
        "Into",
        "Lock",
        "LockingStatement",
        "Command",
        "Execute",
        "ExecuteSql",
        "StoredProcedure",
    ),
    *("Block", "IfBlock", "WhileBlock", "LoopBlock", "RepeatBlock", "Declare", "Set", "SetItem", "Use", "Pragma"),
    *("Attach", "Detach", "Install", "Kill", "Transaction", "Commit", "Rollback", "Grant", "Revoke", "Comment"),
    *("Analyze", "Describe", "Summarize", "Show", "Cache", "Uncache", "Refresh", "ConnectTo", "Disconnect", "Return"),
    *("Placeholder", "Parameter", "SessionParameter", "MultitableInserts", "ConditionalInsert"),
    *("Returning", "NextValueFor", "OpenJSON", "ReadCSV", "ReadParquet", "Heredoc", "Semicolon", "AlterSession"),
)
"""Anywhere in the tree, these end the check."""

CALLS: dict[str, frozenset[str]] = {
    "sqlite": _names(
        "load_extension fts3_tokenizer readfile writefile edit fsdir lsmode sqlar_compress sqlar_uncompress zipfile "
        "shell_add_schema shell_module_schema shell_putsnl usleep sqlite_dbpage sqlite_dbdata dbstat randomblob_file "
        "crypto_exec define eval fileio_read fileio_write fileio_ls fileio_scan http_get http_post sleep"
    ),
    "postgres": _names(
        "pg_sleep pg_sleep_for pg_sleep_until set_config query_to_xml query_to_xmlschema query_to_xml_and_xmlschema "
        "cursor_to_xml cursor_to_xmlschema table_to_xml table_to_xmlschema table_to_xml_and_xmlschema schema_to_xml "
        "schema_to_xmlschema schema_to_xml_and_xmlschema database_to_xml database_to_xmlschema "
        "database_to_xml_and_xmlschema ts_stat ts_rewrite crosstab crosstab2 crosstab3 crosstab4 crosstabn connectby "
        "nextval setval currval lastval lo_import lo_export lo_creat lo_create lo_unlink lo_open lo_get lo_put "
        "lo_from_bytea lowrite loread lo_truncate lo_truncate64 lo_lseek lo_tell lo_close current_setting txid_current "
        "pg_current_xact_id file_fdw_handler file_fdw_validator plpython_call_handler "
        "has_sequence_privilege binary_upgrade_set_next_pg_type_oid xpath_table "
        "inet_server_addr inet_client_addr"
    ),
    "mysql": _names(
        "sleep benchmark load_file get_lock release_lock release_all_locks is_free_lock is_used_lock "
        "master_pos_wait source_pos_wait master_gtid_wait wait_for_executed_gtid_set wait_until_sql_thread_after_gtids "
        "sys_exec sys_eval sys_get sys_set do_system lib_mysqludf_sys_info name_const nextval setval lastval "
        "last_insert_id user session_user system_user current_role database_exec "
        "group_replication_set_as_primary keyring_key_fetch keyring_key_generate keyring_key_remove keyring_key_store "
        "service_get_read_locks service_get_write_locks service_release_locks version_tokens_set"
    ),
    "duckdb": _names(
        "read_csv read_csv_auto read_parquet parquet_scan read_json read_json_auto read_json_objects "
        "read_json_objects_auto read_ndjson read_ndjson_auto read_ndjson_objects read_text read_blob glob sniff_csv "
        "parquet_metadata parquet_schema parquet_file_metadata parquet_kv_metadata parquet_bloom_probe read_xlsx "
        "st_read st_read_meta iceberg_scan delta_scan sqlite_scan sqlite_attach postgres_scan postgres_scan_pushdown "
        "postgres_query postgres_execute postgres_attach mysql_scan mysql_query mysql_execute query query_table getenv "
        "which_secret duckdb_secrets duckdb_settings duckdb_extensions duckdb_databases duckdb_temporary_files "
        "duckdb_logs duckdb_log_contexts checkpoint force_checkpoint pragma_database_size enable_profiling "
        "arrow_scan arrow_scan_dumb pandas_scan python_map_function seq_scan nextval currval "
        "json_execute_serialized_sql json_serialize_sql json_serialize_plan json_deserialize_sql "
        "from_substrait from_substrait_json write_log parse_duckdb_log_message set_config current_setting "
        "http_get http_post http_request write_blob write_csv shell load_aws_credentials sleep sleep_ms "
        "enable_logging disable_logging truncate_duckdb_logs repeat_row test_all_types test_vector_types "
        "read_duckdb read_lines"
    ),
}
"""Functions that wait, read or write files, reach another server, run text as SQL or change the connection."""

HARMLESS_CALLS = _names("pg_typeof pg_column_size pg_size_pretty pg_size_bytes pg_input_is_valid")
"""Functions that only compute, although their names begin like those that do not."""

CALL_PREFIXES: dict[str, tuple[str, ...]] = {
    "sqlite": ("pragma_", "fileio_"),
    "postgres": (
        *("pg_", "lo_", "to_reg", "dblink", "postgres_fdw_", "brin_", "gin_clean_", "plperl", "plpython"),
        *("binary_upgrade_", "http_", "cron_"),
    ),
    "mysql": (
        "sys_",
        "asynchronous_connection_",
        "group_replication_",
        "keyring_",
        "service_",
        "version_tokens_",
        "spider_",
        "wsrep_",
    ),
    "duckdb": (
        "duckdb_",
        "read_",
        "parquet_",
        "pragma_",
        "postgres_",
        "mysql_",
        "sqlite_",
        "st_read",
        "iceberg_",
        "http",
        "load_",
    ),
}
"""The same, by the beginning of the name."""

SYSTEM_TABLES: dict[str, tuple[str, ...]] = {
    "sqlite": ("sqlite_", "pragma_", "dbstat"),
    "postgres": ("pg_",),
    "mysql": (),
    "duckdb": ("duckdb_", "pragma_", "sqlite_", "pg_"),
}
"""Tables, by the beginning of the name, that describe the server and not the data."""

SYSTEM_SCHEMAS = frozenset(
    {"pg_catalog", "pg_toast", "pg_temp", "mysql", "performance_schema", "sys", "information_schema", "sqlite_master"}
)
"""The same, by schema."""

FALLBACK_CALLS = _names(
    "abs acos asin atan atan2 avg bit_length cast ceil ceiling char_length character_length coalesce concat concat_ws "
    "convert corr cos count cume_dist current_date current_time current_timestamp date date_add date_diff date_part "
    "date_sub date_trunc dateadd datediff datepart day dayofweek dayofyear degrees dense_rank exp extract first_value "
    "floor format greatest hour ifnull iif initcap instr isnull json_extract json_extract_scalar json_query json_value "
    "lag last_value lcase lead least left length len ln locate log log10 log2 lower lpad ltrim max median min minute "
    "mod month nth_value ntile nullif nvl nvl2 octet_length percent_rank percentile_cont percentile_disc pi position "
    "pow power quarter radians rank regexp_contains regexp_extract regexp_like regexp_replace replace reverse right "
    "round row_number rpad rtrim second sign sin split_part sqrt stddev stddev_pop stddev_samp strftime string_agg "
    "strpos stuff substr substring sum tan to_char to_date to_number to_timestamp trim trunc try_cast ucase upper "
    "var_pop var_samp variance week year if case exists in values over"
)
"""The only functions of the fallback mode (others may be added with `allow_functions`)."""
