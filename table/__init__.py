"""Tables: files of prompts as rows, with ids, seeds, templates and names. Needs neither torch nor a server."""

from .columns import ALIASES, clean
from .duplicates import Duplicates
from .export import export_csv
from .names import check_name, name_key
from .seeds import SEED_MAX, derive_seed, parse_seed
from .selection import Selection
from .table import Row, Table, open_table
from .template import Template

__all__ = [
    "ALIASES",
    "SEED_MAX",
    "Duplicates",
    "Row",
    "Selection",
    "Table",
    "Template",
    "check_name",
    "clean",
    "derive_seed",
    "export_csv",
    "name_key",
    "open_table",
    "parse_seed",
]
