"""parquet, read in batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import TableError
from .cells import cell_text
from .source import Record


class Parquet:
    """Integers and decimals are exact; a float column with whole numbers (a nullable one from pandas) shows them so."""

    unit = "row"
    header_place = 1

    def __init__(self, path: Path) -> None:
        """:raises TableError: pyarrow is missing, or not a parquet file."""
        self._path = path
        self.notes: list[str] = []
        with _open(path) as file:
            self.header = list(file.schema_arrow.names)

    def records(self) -> Iterator[Record]:
        """Every row."""
        with _open(self._path) as file:
            place = 0
            batches = file.iter_batches(batch_size=1000)
            while True:
                try:
                    batch = next(batches, None)
                    rows = (
                        []
                        if batch is None
                        else zip(*(column.to_pylist() for column in batch.columns), strict=True)
                    )
                except Exception as error:  # a damaged file or an unknown type fails in pyarrow with anything
                    raise _damaged(self._path, error) from error
                if batch is None:
                    return
                for cells in rows:
                    place += 1
                    yield place, self._record(place, cells)

    def _record(self, place: int, cells: tuple[Any, ...]) -> list[str] | TableError:
        record = []
        for column, value in zip(self.header, cells, strict=True):
            try:
                record.append(cell_text(value, exact_integers=True))
            except TableError as error:
                error.where = f"{self._path.name} row {place}, column {column}"
                return error
        return record


def _open(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise TableError(
            "a parquet table needs pyarrow", where=path.name, hint="pip install pyarrow"
        ) from None
    try:
        return parquet.ParquetFile(path)
    except Exception as error:  # see records
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> TableError:
    return TableError(
        f"not a parquet file that can be read: {error}",
        where=path.name,
        hint="write it again, or export it as csv",
    )
