"""Foreign formats: one module each, with `read(paths, rejects=None)`, `write(records, path, overwrite)`
and `recognise(row)`, which says by what a row is of this format. They stand from the specific to the general.

A format's importer keeps every row that its source has and merges nothing. Its exporter says, field by
field, what the format cannot hold.
"""

from __future__ import annotations

from types import ModuleType

from alignment.data.formats import alpaca, hh_rlhf, native, trl

FORMATS: dict[str, ModuleType] = {"native": native, "hh-rlhf": hh_rlhf, "alpaca": alpaca, "trl": trl}
