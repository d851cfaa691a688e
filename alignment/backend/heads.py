"""The scalar head of a reward model: one score for a text, read where the text ends."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def unwrap(model: Any) -> Any:
    """The transformers model inside a PeftModel (adapter layers stay in it); any other model as it is."""
    # Not by its `peft_config`: PEFT hangs that on the model inside as well.
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def score_at_last_token(model: PreTrainedModel) -> None:
    """Make a sequence-score model read its score at the last attended token, in float32; in place.

    Transformers looks for the last token that is not the pad id, which reads the wrong place when pad is EOS
    or when a pad id occurs in the text, and numbers positions from the left edge even when that is padding.
    Here both come from the attention mask. `model.forward` is replaced on the instance, so that wrappers
    (PEFT, DDP, FSDP, autocast) keep working; weights and their names are untouched. Models with another kind
    of head (encoders that read [CLS]) are left alone.
    """
    if hasattr(model, "score") and hasattr(model, model.base_model_prefix):
        model.score.float()
        model.forward = MethodType(_last_token_forward, model)


def _last_token_forward(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    **kwargs: Any,
) -> Any:
    """input_ids, attention_mask (B, T) -> logits (B, 1): the head applied to the last attended token."""
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutputWithPast

    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    hidden = backbone_states(model, input_ids, attention_mask, **kwargs)
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    last = (places * attention_mask).argmax(dim=1)
    rows = torch.arange(len(input_ids), device=hidden.device)
    return SequenceClassifierOutputWithPast(logits=apply_head(model, hidden[rows, last]))


def backbone_states(
    model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any
) -> torch.Tensor:
    """Last hidden states (B, T, d) of a score model's backbone, positions counted over attended tokens."""
    kwargs = {
        k: v for k, v in kwargs.items() if k not in ("labels", "use_cache", "return_dict", "position_ids")
    }
    positions = (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
    backbone = getattr(model, model.base_model_prefix)
    return backbone(
        input_ids, attention_mask=attention_mask, position_ids=positions, use_cache=False, **kwargs
    ).last_hidden_state


def apply_head(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The head on hidden states (…, d) -> (…, 1), in float32 even under autocast.

    bfloat16 has eight bits: scores near 5 would come in steps of 0.03.
    """
    import torch

    with torch.autocast(hidden.device.type, enabled=False):
        return model.score(hidden.float())
