"""Opens the database and brings its tables up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ...errors import PromptmillError
from .schema import metadata

MIGRATIONS = Path(__file__).parent / "migrations"


class LedgerError(PromptmillError):
    """The ledger cannot be used."""

    code = "ledger"


def open_database(url: str | sa.URL) -> sa.Engine:
    """An engine on a database with this version's tables.

    :param url: an SQLAlchemy URL: ``sqlite:///out/ledger.sqlite`` or ``postgresql://user@host/name``.
    :raises LedgerError: the database cannot be opened or was written by a newer version.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
        _migrate(engine)
    except (sa.exc.SQLAlchemyError, ModuleNotFoundError, ValueError) as error:
        raise LedgerError(
            f"cannot open the ledger: {_reason(error)}",
            value=_without_password(url),
            hint="--database sqlite:///path/to/ledger.sqlite, or postgresql://user@host/name",
        ) from error
    return engine


def _migrate(engine: sa.Engine) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["metadata"] = metadata
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise LedgerError(
                f"the ledger was written by a newer promptmill: {error}",
                hint="pip install --upgrade promptmill",
            ) from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    """Writers queue for the lock at once, instead of failing when a read turns into a write."""
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _reason(error: Exception) -> str:
    """The database's own words; an unreadable URL is not repeated, it may hold a password."""
    if isinstance(error, (sa.exc.ArgumentError, ValueError)):
        return "its URL cannot be read"
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def _without_password(url: str | sa.URL) -> str | None:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except (sa.exc.ArgumentError, ValueError):
        return None
