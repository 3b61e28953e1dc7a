"""Runs batch SQL in DuckDB over newline JSON, for comparison.

Standard input: {"tables": {name: {"files": [path], "columns": {column: type}}}, "queries": [sql]}.
Standard output: for each query a line {"columns": [name], "rows": [[value]]}. Decimals are written as text.
"""

import decimal
import json
import sys

import duckdb


def plain(value):
    if isinstance(value, decimal.Decimal):
        return str(value)
    raise TypeError(f"{type(value)} is not compared: cast it in the query")


def main():
    task = json.load(sys.stdin)
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    for name, table in task["tables"].items():
        connection.execute(
            f"CREATE TABLE {name} AS SELECT * FROM read_json(?, format = 'newline_delimited', columns = ?)",
            [table["files"], table["columns"]],
        )
    for sql in task["queries"]:
        try:
            result = connection.execute(sql)
        except duckdb.Error as error:
            sys.exit(f"{error}\nin: {sql}")
        columns = [column[0] for column in result.description]
        print(json.dumps({"columns": columns, "rows": result.fetchall()}, default=plain))


main()
