"""The functions of MySQL and MariaDB that only compute; whatever is not here is not called."""

from __future__ import annotations

_NUMBERS = (
    "abs acos asin atan atan2 bit_count ceil ceiling conv cos cot crc32 crc32c degrees div exp floor format greatest "
    "least ln log log10 log2 mod oct pi pow power radians rand round sign sin sqrt tan truncate bin hex unhex"
)
_TEXT = (
    "ascii bit_length char char_length character_length chr charset coercibility collation concat concat_ws elt "
    "export_set field find_in_set from_base64 insert instr lcase left length lengthb locate lower lpad ltrim "
    "make_set mid natural_sort_key octet_length ord position quote regexp_instr regexp_like regexp_replace "
    "regexp_substr repeat replace reverse right rpad rtrim sformat soundex space strcmp substr substring "
    "substring_index to_base64 to_char to_number trim ucase upper weight_string match against convert cast binary"
)
_TIMES = (
    "add_months adddate addtime convert_tz curdate current_date current_time current_timestamp curtime date date_add "
    "date_format date_sub datediff day dayname dayofmonth dayofweek dayofyear extract from_days from_unixtime "
    "get_format hour last_day localtime localtimestamp makedate maketime microsecond minute month monthname now "
    "period_add period_diff quarter sec_to_time second str_to_date subdate subtime sysdate time time_format "
    "time_to_sec timediff timestamp timestampadd timestampdiff to_days to_seconds unix_timestamp utc_date utc_time "
    "utc_timestamp week weekday weekofyear year yearweek"
)
_CHOICES = "case coalesce decode_oracle if ifnull interval isnull nullif nvl nvl2 values default any_value grouping"
_GROUPS = (
    "avg bit_and bit_or bit_xor count group_concat json_arrayagg json_objectagg max median min percentile_cont "
    "percentile_disc std stddev stddev_pop stddev_samp sum var_pop var_samp variance cume_dist dense_rank first_value "
    "lag last_value lead nth_value ntile percent_rank rank row_number st_collect"
)
_JSON = (
    "json_array json_array_append json_array_insert json_compact json_contains json_contains_path json_depth "
    "json_detailed json_equals json_exists json_extract json_insert json_keys json_length json_loose json_merge "
    "json_merge_patch json_merge_preserve json_normalize json_object json_overlaps json_pretty json_query json_quote "
    "json_remove json_replace json_search json_set json_storage_free "
    "json_storage_size json_table json_type json_unquote json_valid json_value member extractvalue updatexml "
    "column_check column_create column_exists column_get column_json column_list"
)
_SHAPES = (
    "geomcollection geometrycollection linestring mbrcontains mbrcoveredby mbrcovers mbrdisjoint mbrequals "
    "mbrintersects mbroverlaps mbrtouches mbrwithin multilinestring multipoint multipolygon point polygon st_area "
    "st_asbinary st_asgeojson st_astext st_aswkb st_aswkt st_buffer st_buffer_strategy st_centroid st_contains "
    "st_convexhull st_crosses st_difference st_dimension st_disjoint st_distance st_distance_sphere st_endpoint "
    "st_envelope st_equals st_exteriorring st_frechetdistance st_geohash st_geomcollfromtext st_geomcollfromwkb "
    "st_geometryn st_geometrytype st_geomfromgeojson st_geomfromtext st_geomfromwkb st_hausdorffdistance "
    "st_interiorringn st_intersection st_intersects st_isclosed st_isempty st_isring st_issimple st_isvalid "
    "st_latfromgeohash st_latitude st_length st_linefromtext st_linefromwkb st_lineinterpolatepoint "
    "st_lineinterpolatepoints st_longfromgeohash st_longitude st_makeenvelope st_mlinefromtext st_mpointfromtext "
    "st_mpolyfromtext st_numgeometries st_numinteriorrings st_numpoints st_overlaps st_pointatdistance "
    "st_pointfromgeohash st_pointfromtext st_pointfromwkb st_pointn st_pointonsurface st_polyfromtext "
    "st_polyfromwkb st_relate st_simplify st_srid st_startpoint st_swapxy st_symdifference st_touches st_transform "
    "st_union st_validate st_within st_x st_y geomfromtext astext x y"
)
_OTHER = (
    "bin_to_uuid compress database schema found_rows inet6_aton inet6_ntoa inet_aton inet_ntoa is_ipv4 "
    "is_ipv4_compat is_ipv4_mapped is_ipv6 is_uuid md5 random_bytes row sha sha1 sha2 sys_guid uncompress "
    "uncompressed_length uuid uuid_short uuid_to_bin version format_bytes format_pico_time aes_encrypt aes_decrypt"
)
MYSQL_FUNCTIONS = frozenset(" ".join((_NUMBERS, _TEXT, _TIMES, _CHOICES, _GROUPS, _JSON, _SHAPES, _OTHER)).split())
"""Lower-case names.

Waiting, locks, files, replication, keys, accounts and server internals are left out, and so is `json_schema_valid`,
whose patterns back-track for ever, deaf to a kill.
"""
