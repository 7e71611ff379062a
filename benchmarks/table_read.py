"""Stream a csv of a million rows: rows a second, peak memory, and the ratio to a bare csv.reader in the same run.

python benchmarks/table_read.py [rows]
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from promptmill.table import open_table

STYLES = ("studio", "街拍", "watercolour", "电影感")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "products.csv")
        write(path, count)
        bare = timed("bare csv.reader", count, lambda: bare_reader(path))
        opening = time.perf_counter()
        table = open_table(path)
        print(f"{'open_table':16} {time.perf_counter() - opening:6.2f} s")
        ours = timed("Table.rows", count, table.rows)
        print(f"ratio {ours / bare:.1f}")


def write(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("sku", "name", "style", "prompt"))
        for number in range(count):
            prompt = f"product {number}, on a wooden table, soft light, 红色陶瓷花瓶, high detail"
            writer.writerow((f"A{number:07}", f"花瓶 {number}", STYLES[number % 4], prompt))


def bare_reader(path: Path) -> Iterable[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        next(reader)
        yield from reader


def timed(label: str, count: int, read: Callable[[], Iterable[object]]) -> float:
    """Seconds; memory is looked at every 10,000 rows, for the highest value of this part alone."""
    process = psutil.Process()
    before = process.memory_info().rss
    peak = before
    seen = 0
    start = time.perf_counter()
    for _ in read():
        seen += 1
        if seen % 10_000 == 0:
            peak = max(peak, process.memory_info().rss)
    seconds = time.perf_counter() - start
    assert seen == count
    rate = f"{count / seconds:10,.0f} rows/s"
    print(
        f"{label:16} {seconds:6.2f} s {rate}, peak {peak / 2**20:.0f} MB RSS ({(peak - before) / 2**20:+.0f} MB)"
    )
    return seconds


if __name__ == "__main__":
    main()
