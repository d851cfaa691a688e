"""How DPO and KTO begin: the same checks, then a policy beside the reference that it is held to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignment.backend.inputs import StageRows, counted
from alignment.backend.progress import only_own_progress, say

if TYPE_CHECKING:
    from alignment.backend.config import StageConfig


def against_reference(
    config: StageConfig, args: Any, rows: StageRows, view: str
) -> tuple[dict[str, Any], dict[str, int]]:
    """What TRL's DPOTrainer and KTOTrainer take alike, beside their rows; and the counts of the rows.

    view: of `rows`, as in preflight.check_rows. The reference is the policy as given. Raises UserError where
    rows cannot be trained on or the memory does not suffice, before a model is loaded.
    """
    from transformers import set_seed

    from alignment.backend.memory import check_memory
    from alignment.backend.models import load_policy, load_reference, load_tokenizer, peft_config
    from alignment.backend.preflight import check_rows
    from alignment.backend.unpadded import quicken

    tokenizer = load_tokenizer(config.model.path)
    limits = (args.max_length, config.data.max_truncated, view)
    counts = check_rows(rows.train, tokenizer, *limits)
    check_rows(rows.validation, tokenizer, *limits)
    say(counted(counts, rows.left_out))
    check_memory(config, args, config.stage, min(counts["longest"], args.max_length or counts["longest"]))
    only_own_progress()
    if args.precompute_ref_log_probs:
        say("measuring the log-probabilities of the reference first")
    set_seed(config.run.seed)
    policy = load_policy(config.model)
    reference = load_reference(config.model, policy, args.precompute_ref_log_probs)
    for model in filter(None, (policy, reference)):
        quicken(model, args)
    given = {
        "model": policy,
        "ref_model": reference,
        "args": args,
        "processing_class": tokenizer,
        "peft_config": peft_config(config.model, "CAUSAL_LM"),
    }
    return given, counts
