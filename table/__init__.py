"""Tables: files of prompts as rows, with ids, seeds, templates and names. Needs neither torch nor a server."""

from .columns import ALIASES, clean
from .duplicates import Duplicates
from .export import export_csv
from .jobs import EXTRA_NAMES, Job, Jobs, Settings, row_seed, row_settings
from .manifest import MANIFEST, Entry, append_entry, read_entries
from .names import check_name, name_key
from .naming import OWN_FILES, Names, default_pattern, image_name
from .pasted import pasted_table
from .seeds import SEED_MAX, derive_seed, parse_seed
from .selection import Selection
from .stamp import KEYWORD, is_done, read_stamp, stamp
from .table import FORMATS, Row, Table, open_table
from .template import Template

__all__ = [
    "ALIASES",
    "EXTRA_NAMES",
    "FORMATS",
    "KEYWORD",
    "MANIFEST",
    "OWN_FILES",
    "SEED_MAX",
    "Duplicates",
    "Entry",
    "Job",
    "Jobs",
    "Names",
    "Row",
    "Selection",
    "Settings",
    "Table",
    "Template",
    "append_entry",
    "check_name",
    "clean",
    "default_pattern",
    "derive_seed",
    "export_csv",
    "image_name",
    "is_done",
    "name_key",
    "open_table",
    "parse_seed",
    "pasted_table",
    "read_entries",
    "read_stamp",
    "row_seed",
    "row_settings",
    "stamp",
]
