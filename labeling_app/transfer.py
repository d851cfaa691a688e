"""Records in and out of the labeling database: the names that others use of `imports` and `exports`."""

from labeling_app.exports import Exported, export_records, project_records
from labeling_app.imports import DEFAULT_GUIDELINE, DEFAULT_PROJECT, Imported, import_into, import_records

__all__ = [
    "DEFAULT_GUIDELINE",
    "DEFAULT_PROJECT",
    "Exported",
    "Imported",
    "export_records",
    "import_into",
    "import_records",
    "project_records",
]
