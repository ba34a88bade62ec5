"""Checks rows.raw against DuckDB over the same events, and leaves them as Parquet and CSV for the peers."""
import sys
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

where = sys.argv[1]
events = np.fromfile(f"{where}/ev.raw", dtype=[("key", "<i4"), ("ts", "<i8"), ("v", "<f8")])
table = pa.table({name: pa.array(np.ascontiguousarray(events[name])) for name in ("key", "ts", "v")})
pq.write_table(table, f"{where}/ev.parquet", compression="zstd", compression_level=1, row_group_size=262144)
pc.write_csv(table, f"{where}/ev.csv", pc.WriteOptions(include_header=False))
del events, table

columns = ("mean", "deviation", "minimum", "maximum")
ours = np.fromfile(f"{where}/rows.raw", dtype=[("key", "<u4"), ("start", "<i8"), ("n", "<u8")] + [(c, "<f8") for c in columns])
ours = ours[np.lexsort((ours["start"], ours["key"]))]
theirs = duckdb.sql(
    "select key, ts // 1000 * 1000 as start, count(*) as n, avg(v) as mean, stddev_pop(v) as deviation, "
    f"min(v) as minimum, max(v) as maximum from '{where}/ev.parquet' group by 1, 2 order by 1, 2").fetchnumpy()
if len(ours) != len(theirs["key"]):
    sys.exit(f"{len(ours)} rows of ours, {len(theirs['key'])} of DuckDB")
for column in ("key", "start", "n"):
    if not np.array_equal(ours[column].astype(np.int64), theirs[column].astype(np.int64)):
        sys.exit(f"column {column} differs")
worst = max(
    float(np.max(np.abs(ours[c] - theirs[c]) / np.maximum(np.abs(theirs[c]), 1.0))) for c in columns)
print(f"rows={len(ours)} difference={worst:.3e}")
