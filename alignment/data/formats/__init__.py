"""Foreign formats: one module each, with `read(paths, rejects=None)`, `write(records, path, overwrite)`
and `recognise(row)`, which says by what a row is of this format. They stand from the specific to the general.

A format's importer keeps every row that its source has and merges nothing. Its exporter says, field by
field, what the format cannot hold.
"""

from __future__ import annotations

from types import ModuleType

from alignment.data.formats import (
    alpaca,
    alpaca_eval,
    arena,
    argilla,
    columns,
    hh_rlhf,
    label_studio,
    llmbar,
    mt_bench,
    native,
    oasst,
    openai_chat,
    openai_preference,
    pandalm,
    self_instruct,
    sharegpt,
    trl,
    ultrafeedback,
)

FORMATS: dict[str, ModuleType] = {
    "native": native,
    "oasst": oasst,
    "openai-preference": openai_preference,
    "sharegpt": sharegpt,
    "openai-chat": openai_chat,
    "label-studio": label_studio,
    "argilla": argilla,
    "ultrafeedback": ultrafeedback,
    "arena": arena,
    "pandalm": pandalm,
    "llmbar": llmbar,
    "mt-bench": mt_bench,
    "self-instruct": self_instruct,
    "alpaca-eval": alpaca_eval,
    "hh-rlhf": hh_rlhf,
    "alpaca": alpaca,
    "trl": trl,
    "columns": columns,
}
