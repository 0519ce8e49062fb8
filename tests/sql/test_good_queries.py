"""Nothing a careful person would write is refused."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_setup import fill
from sqlalchemy import create_engine

from tta_langgraph.sql import Database

COMMON = [
    "SELECT name, rank() OVER (PARTITION BY country ORDER BY age DESC) AS r FROM singer",
    "SELECT id, sum(age) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM singer",
    "SELECT lag(name) OVER w, lead(name, 2) OVER w FROM singer WINDOW w AS (ORDER BY id)",
    "WITH a AS (SELECT * FROM singer), b AS (SELECT * FROM a WHERE age > 20) SELECT count(*) FROM b",
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 10) SELECT sum(x) FROM n",
    "SELECT name FROM singer UNION SELECT country FROM singer ORDER BY 1",
    "SELECT id FROM singer UNION ALL SELECT id FROM concert",
    "SELECT id FROM singer WHERE id NOT IN (SELECT singer_id FROM concert)",
    "SELECT s.name FROM singer s LEFT JOIN concert c ON c.singer_id = s.id WHERE c.id IS NULL",
    "SELECT country, count(*) AS n, avg(age) FROM singer GROUP BY country HAVING count(*) >= 1 ORDER BY n DESC LIMIT 3",
    "SELECT CASE WHEN age > 30 THEN 'old' ELSE 'young' END AS k, count(*) FROM singer GROUP BY 1",
    "SELECT name FROM singer WHERE name LIKE '%n%' AND age BETWEEN 20 AND 50",
    "SELECT coalesce(nullif(country, ''), 'unknown') FROM singer",
    "SELECT count(DISTINCT country), min(age), max(age) FROM singer",
    "SELECT (SELECT max(year) FROM concert c WHERE c.singer_id = s.id) FROM singer s",
    "SELECT name FROM singer WHERE EXISTS (SELECT 1 FROM concert WHERE singer_id = singer.id)",
    "SELECT upper(name), length(name), substr(name, 1, 2), round(age / 3.0, 2), abs(-age) FROM singer",
    "SELECT replace(name, 'n', 'm'), trim(name), lower(country) FROM singer",
    "-- the question was about singers\nSELECT count(*) FROM singer /* all of them */;",
    "SELECT 'DROP TABLE singer; --' AS words, 'it''s' AS quoted FROM singer",
    'SELECT name AS "delete", country AS "update" FROM singer',
    "SELECT * FROM singer CROSS JOIN (SELECT 1 AS one) AS x ORDER BY id LIMIT 2 OFFSET 1",
    "SELECT name FROM singer ORDER BY age DESC, name",
]
GOOD = {
    "sqlite": [
        'SELECT [name], `country`, "age" FROM [singer]',
        "SELECT json_extract('{\"a\": [1, 2]}', '$.a[0]'), '{\"a\": 1}' ->> '$.a'",
        "SELECT value FROM json_each('[1, 2, 3]')",
        "SELECT j.key, j.value FROM singer, json_each(json_object('n', name)) AS j",
        "SELECT strftime('%Y', '2020-05-01'), date('now', '-1 month'), julianday('2020-01-01')",
        "SELECT group_concat(name, ', ') FROM singer GROUP BY country",
        "SELECT iif(age > 30, 1, 0), instr(name, 'n'), printf('%.2f', age) FROM singer",
        "SELECT name || ' (' || country || ')' FROM singer WHERE name GLOB 'A*'",
        'SELECT name FROM singer WHERE country = "France"',
        "SELECT cast(age AS real) / 2, typeof(age) FROM singer EXCEPT SELECT 1.0, 'real'",
        "SELECT total(age), row_number() OVER (ORDER BY age) FROM singer GROUP BY id",
        "VALUES (1, 'a'), (2, 'b')",
    ],
    "postgres": [
        "SELECT DISTINCT ON (country) country, name FROM singer ORDER BY country, age",
        "SELECT count(*) FILTER (WHERE age > 30), percentile_cont(0.5) WITHIN GROUP (ORDER BY age) FROM singer",
        "SELECT name::text || '!' , age::numeric(10, 2) FROM singer WHERE name ILIKE 'a%'",
        "SELECT '{\"a\": {\"b\": 2}}'::jsonb -> 'a' ->> 'b', '{\"a\": 1}'::jsonb @> '{\"a\": 1}'",
        "SELECT jsonb_agg(name), json_build_object('n', count(*)), array_agg(age ORDER BY age) FROM singer",
        "SELECT k, v FROM jsonb_each_text('{\"a\": 1}'::jsonb) AS t(k, v)",
        "SELECT g::date FROM generate_series(date '2020-01-01', date '2020-01-05', interval '1 day') AS g",
        "SELECT date_trunc('month', timestamp '2020-05-04'), extract(year FROM date '2020-01-01'), age(now())",
        "SELECT to_char(now(), 'YYYY-MM'), now() - interval '1 day', current_date",
        "SELECT string_agg(name, ', ' ORDER BY name), bool_or(age > 30) FROM singer",
        "SELECT s.name, c.n FROM singer s, LATERAL (SELECT count(*) AS n FROM concert WHERE singer_id = s.id) AS c",
        "SELECT unnest(ARRAY[1, 2, 3]), (ARRAY['a', 'b'])[1], 1 = ANY (ARRAY[1, 2])",
        "SELECT regexp_replace(name, 'n+', 'm'), split_part('a-b', '-', 2), name ~ '^A' FROM singer",
        "SELECT country, age, count(*) FROM singer GROUP BY ROLLUP (country, age)",
        "SELECT row(1, 'a'), greatest(1, 2), md5(name), initcap(name) FROM singer",
        "SELECT name FROM singer TABLESAMPLE SYSTEM (100)",
        "SELECT * FROM singer FETCH FIRST 2 ROWS ONLY",
        "SELECT random() < 2, gen_random_uuid() IS NOT NULL",
        "SELECT $$dollar; quoted$$",
        "SELECT " + ", ".join(["json_build_object('name', name), to_hex(age)"] * 30) + " FROM singer",
    ],
    "mysql": [
        'SELECT `name`, "text" FROM `singer`',
        "SELECT concat(name, '-', country), concat_ws(',', name, age), char_length(name) FROM singer",
        "SELECT date_format('2020-05-01', '%Y-%m'), year('2020-05-01'), datediff('2020-05-02', '2020-05-01')",
        "SELECT date_add('2020-01-01', INTERVAL 1 MONTH), timestampdiff(YEAR, '2000-01-01', now())",
        "SELECT group_concat(name ORDER BY age SEPARATOR '; ') FROM singer",
        "SELECT json_extract('{\"a\": 1}', '$.a'), json_unquote(json_extract('{\"a\": \"x\"}', '$.a'))",
        "SELECT ifnull(country, '?'), if(age > 30, 'a', 'b'), find_in_set('a', 'b,a') FROM singer",
        "SELECT name REGEXP '^A', lpad(id, 5, '0'), format(1234.5, 1), truncate(1.239, 2) FROM singer",
        "SELECT SQL_NO_CACHE count(*) FROM singer",
        "SELECT name FROM singer USE INDEX (PRIMARY) LIMIT 1, 2",
        "SELECT country, count(*) FROM singer GROUP BY country WITH ROLLUP",
        "SELECT /*+ NO_BNL() */ name FROM singer",
        "SELECT t.a FROM json_table('[{\"a\": 1}]', '$[*]' COLUMNS (a int PATH '$.a')) AS t",
        "SELECT json_arrayagg(name), json_objectagg(id, name), json_object('n', count(*)) FROM singer",
        "SELECT json_value('{\"a\": 1}', '$.a'), json_contains('[1]', '1'), json_length('[1]')",
        "SELECT ntile(2) OVER (ORDER BY age), cume_dist() OVER (ORDER BY age), first_value(name) OVER w FROM singer "
        "WINDOW w AS (PARTITION BY country ORDER BY age ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)",
        "WITH RECURSIVE d(day) AS (SELECT date('2020-01-01') UNION ALL SELECT day + INTERVAL 1 DAY FROM d "
        "WHERE day < '2020-01-05') SELECT count(*) FROM d",
        "SELECT name FROM singer WHERE (country, age) IN (SELECT country, max(age) FROM singer GROUP BY country)",
        "SELECT regexp_replace(name, 'n+', 'm'), regexp_substr(name, '[a-z]+'), substring_index('a.b.c', '.', 2) "
        "FROM singer",
        "SELECT count(DISTINCT country, age), std(age), bit_or(id), sum(age > 30), any_value FROM "
        "(SELECT *, 1 AS any_value FROM singer) AS s GROUP BY any_value",
        "SELECT cast(age AS CHAR), cast('12' AS SIGNED), convert('1.5', DECIMAL(4, 1)), cast('2020-01-01' AS DATE), "
        "age DIV 2, age MOD 7, age <=> NULL, 1 XOR 0, NOT 1 FROM singer",
        "SELECT extract(YEAR_MONTH FROM '2020-05-01'), str_to_date('01,5,2013', '%d,%m,%Y'), dayname('2020-05-01'), "
        "last_day('2020-02-01'), unix_timestamp('2020-01-01'), week('2020-05-01', 3), current_timestamp",
        "SELECT md5(name), sha2(name, 256), hex(name), left(name, 1), insert(name, 1, 1, 'X'), field('b', 'a', 'b'), "
        "elt(1, 'x'), soundex(name), reverse(name), interval(23, 1, 15), greatest(1, 2), char(65) "
        "FROM singer",
        "SELECT 'it\\'s', \"a \\\" b\", 'C:\\\\dir', _utf8mb4'x', x'41', 0x41, b'1', n'y'",
        "SELECT name FROM singer UNION SELECT country FROM singer ORDER BY name LIMIT 2",
        "SELECT name FROM singer EXCEPT SELECT country FROM singer",
        "SELECT name FROM singer WHERE country = 'france' # case does not matter",
    ],
    "duckdb": [
        "FROM singer",
        "FROM singer SELECT name WHERE age > 30",
        "SELECT * EXCLUDE (age) FROM singer",
        "SELECT COLUMNS('n.*') FROM singer",
        "SELECT country, count(*) FROM singer GROUP BY ALL ORDER BY ALL",
        "SELECT name FROM singer QUALIFY row_number() OVER (PARTITION BY country ORDER BY age) = 1",
        "SELECT list(name), string_agg(name, ', '), median(age), arg_max(name, age) FROM singer",
        "SELECT unnest([1, 2, 3]), {'a': 1, 'b': 'x'}.b, [x * 2 FOR x IN [1, 2]]",
        "SELECT * FROM range(5)",
        "SELECT date_trunc('month', DATE '2020-05-04'), strftime(DATE '2020-01-01', '%Y'), today() + INTERVAL 1 DAY",
        "SELECT unnest(generate_series(DATE '2020-01-01', DATE '2020-01-05', INTERVAL 1 DAY))",
        "SELECT json_extract('{\"a\": 1}', '$.a'), '{\"a\": 1}'::JSON ->> 'a'",
        "SELECT list_transform([1, 2], lambda x: x + 1), list_filter([1, 2], lambda x: x > 1)",
        "SELECT lpad(name, 10, '.'), repeat('-', 20), printf('%05d', age), replace(name, 'n', 'nn') FROM singer",
        "SELECT count(*) FILTER (WHERE age > 30), quantile_cont(age, 0.5) FROM singer",
        "SELECT s.name FROM singer AS s ASOF JOIN concert AS c ON s.id >= c.id",
        "SELECT regexp_extract(name, '^(.)', 1), name[1], name[1:2] FROM singer",
        "SELECT * FROM (PIVOT concert ON year USING count(*) GROUP BY singer_id)",
        "SELECT name.upper(), 'x'.repeat(3), '{}!'.format(name), name.replace('n', 'm'), [1, 2].list_sum() FROM singer",
        "SELECT histogram(age), sum(age) FROM singer",
        "SELECT name, levenshtein(name, 'Anne') AS d FROM singer WHERE jaro_winkler_similarity(name, 'Ann') > 0.5",
        "SELECT levenshtein(left(a.name, 100), left(b.name, 100)) FROM singer AS a, singer AS b",
        "SELECT main.lower(name), x FROM singer, range(2) AS r(x), unnest([1, 2]) AS u(y)",
        "SELECT k.key, k.value FROM singer, json_each('{\"a\": 1}') AS k",
        "SELECT now() > TIMESTAMP '2020-01-01', now()",
    ],
}


@pytest.fixture(params=list(GOOD))
def good(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Database]]:
    family: str = request.param
    if family == "duckdb":
        pytest.importorskip("duckdb_engine")
    url = f"{family}:///{tmp_path}/good.{family}"
    if family in ("postgres", "mysql"):
        url = str(request.getfixturevalue(f"{family}_url"))
    engine = create_engine(url)
    fill(engine)
    engine.dispose()
    with Database(url) as database:
        yield family, database


def test_ordinary_sql_of_every_dialect_runs(good: tuple[str, Database]) -> None:
    family, database = good
    refused = {}
    for sql in COMMON + GOOD[family]:
        if family == "mysql" and 'AS "' in sql:
            sql = sql.replace('"', "`")
        result = database.execute(sql, timeout=10.0)
        if not result.ok:
            refused[sql] = (result.error_kind, result.error)
    assert refused == {}


@pytest.mark.parametrize("pool", ["spider_dev", "spider_train_pool"])
def test_a_thousand_gold_queries_run_and_find_as_many_rows_as_was_recorded(data: Path, pool: str) -> None:
    questions = defaultdict(list)
    lines = (data / pool / "questions.jsonl").read_text().splitlines()
    step = max(1, len(lines) // 700)
    for line in lines[::step]:
        question = json.loads(line)
        questions[question["db_id"]].append(question)
    ran, wrong = 0, []
    for name, group in questions.items():
        with Database(data / pool / "databases" / f"{name}.sqlite", max_rows=100_000, max_bytes=50_000_000) as database:
            for question in group:
                result = database.execute(question["gold_sql"], timeout=10.0)
                ran += 1
                if not result.ok or result.n_rows != question["gold_rows"]:
                    wrong.append((question["id"], result.error, result.n_rows, question["gold_rows"]))
    assert wrong == []
    assert ran >= 500
