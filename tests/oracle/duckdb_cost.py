"""Runs one query of batch SQL in DuckDB over newline JSON, as a program would that takes its rows as batches.

The argument names a file: {"tables": {name: {"files": [path], "columns": {column: type}}}, "query": sql, "threads": n,
"in_memory": bool}. With in_memory the tables are loaded first. Standard output: {"rows": n, "cpu_s": s, "wall_s": s},
the seconds those of the query alone. The fields of the columns are read from Parquet files where their names say so.
"""

import json
import resource
import sys
import time

import duckdb

BATCH_ROWS = 100_000


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def source(table):
    if table["files"][0].endswith(".parquet"):
        return f"SELECT * FROM read_parquet({table['files']})"
    return f"SELECT * FROM read_json({table['files']}, format = 'newline_delimited', columns = {table['columns']})"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        task = json.load(file)
    connection = duckdb.connect(":memory:")
    connection.execute(f"SET threads = {task['threads']}")
    connection.execute("SET preserve_insertion_order = false")
    kind = "TABLE" if task["in_memory"] else "VIEW"
    for name, table in task["tables"].items():
        connection.execute(f"CREATE {kind} {name} AS {source(table)}")
    wall, cpu = time.perf_counter(), cpu_s()
    batches = connection.execute(task["query"]).to_arrow_reader(BATCH_ROWS)
    rows = sum(batch.num_rows for batch in batches)
    print(json.dumps({"rows": rows, "cpu_s": cpu_s() - cpu, "wall_s": time.perf_counter() - wall}))


main()
