"""The chat-template contract: how messages become token ids, the same way in every stage.

Four promises. The prompt rendered alone is a prefix of prompt and completion rendered together (checked on
the actual rows). A text starts with at most one BOS: the template writes it, tokenizers never add another.
The token that ends a turn is known, supervised, and recognised when it is generated. A completion that was
cut off is never given the closing token it did not earn.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alignment.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger("alignment")
_SAID: set[str] = set()
_PROBE = "alignkitprobe"
_PAD_NAMES = ("<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|reserved_special_token_0|>")

Messages = Sequence[Mapping[str, Any]]


def say_once(message: str) -> None:
    """Tell the user something once a process, on the `alignment` logger."""
    if message not in _SAID:
        _SAID.add(message)
        logger.warning(message)


def fingerprint(template: str | None) -> str:
    """Sixteen hex digits that name a chat template; "none" without one."""
    return hashlib.sha256(template.encode()).hexdigest()[:16] if template else "none"


def require_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """UserError when the tokenizer has no chat template."""
    if not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path} has no chat template; put one in its folder as "
            "chat_template.jinja, or start from a model that has one"
        )


def ensure_pad(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer a pad token that is not EOS where its vocabulary has one, and say so.

    Padding that looks like EOS is the classic way to train a model that never stops. Where the vocabulary
    holds no spare token, pad stays EOS: everything here goes by attention masks and lengths, never by the
    pad id, so that works too.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    vocabulary = tokenizer.get_vocab()
    candidates = [*_PAD_NAMES, tokenizer.unk_token, "<|endoftext|>"]
    taken = {tokenizer.eos_token, tokenizer.bos_token, None}
    spare = next((name for name in candidates if name not in taken and name in vocabulary), None)
    tokenizer.pad_token = spare or tokenizer.eos_token
    if spare:
        say_once(f"{tokenizer.name_or_path}: pad was missing or equal to EOS, {spare} pads instead")
    else:
        say_once(
            f"{tokenizer.name_or_path}: pad and EOS are the same token ({tokenizer.eos_token}); "
            "padding is told apart by the attention mask"
        )


def render_text(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, *, open_turn: bool, tools: list[Any] | None = None
) -> str:
    """The template's text for `messages`; `open_turn` adds the header of the assistant's turn."""
    require_template(tokenizer)
    turns: Any = list(messages)
    text: Any = tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=open_turn, tools=tools
    )
    return text


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a rendered text: the template has written BOS already, so no special token is added."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def render_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: list[Any] | None = None
) -> list[int]:
    """Token ids of a prompt, ending where the assistant begins to speak."""
    return encode(tokenizer, render_text(tokenizer, messages, open_turn=True, tools=tools))


def closing_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes after the assistant's last word, e.g. "<|im_end|>\\n"."""
    probe = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": _PROBE}]
    return render_text(tokenizer, probe, open_turn=False).rpartition(_PROBE)[2]


def stop_ids(tokenizer: PreTrainedTokenizerBase, generation_config: Any = None) -> list[int]:
    """Ids that end an assistant's turn: EOS, the model's own list, and the template's closing token."""
    found = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    own = getattr(generation_config, "eos_token_id", None)
    found += [own] if isinstance(own, int) else list(own or [])
    if tokenizer.chat_template:
        closing = encode(tokenizer, closing_text(tokenizer))
        special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
        found += [token for token in closing[:1] if token in special]
    if not found:
        raise UserError(f"the tokenizer of {tokenizer.name_or_path} has no EOS token: set eos_token")
    return sorted(set(found))


def render_conversation(
    tokenizer: PreTrainedTokenizerBase, prompt: Messages, completion: str, finished: bool = True
) -> list[int]:
    """Token ids of prompt and completion as a reward model reads them, in the tokenizer's own template.

    A finished completion is closed as the template closes it. One that was cut off at a length limit
    (`finished=False`) ends at its last word: no EOS, nothing after it.
    """
    return render_conversations(tokenizer, [prompt], [completion], [finished])[0]


def render_conversations(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    completions: Sequence[str],
    finished: Sequence[bool],
) -> list[list[int]]:
    """As `render_conversation`, for many: tokenized together they take a fraction of the time."""
    closing = "" if all(finished) else closing_text(tokenizer)
    texts = []
    for prompt, completion, ended in zip(prompts, completions, finished, strict=True):
        turns = [*prompt, {"role": "assistant", "content": completion}]
        text = render_text(tokenizer, turns, open_turn=False)
        texts.append(text if ended or not closing else text.removesuffix(closing))
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


def completion_messages(row: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The value of `key` as messages: a string is one assistant turn."""
    value = row[key]
    return [{"role": "assistant", "content": value}] if isinstance(value, str) else list(value)


def split_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Messages,
    completion: Messages,
    where: str,
    tools: list[Any] | None = None,
) -> tuple[list[int], list[int], bool]:
    """Ids of the prompt, of what the completion adds to them, and whether a token spans the two.

    A tokenizer may merge the prompt's last characters with the completion's first ("…assistant\\n" and
    "\\nSure"): that token is counted to the completion. Raises UserError naming `where` if the prompt's text
    is not a prefix of the whole, or if the whole starts with two BOS tokens.
    """
    text = render_text(tokenizer, [*prompt, *completion], open_turn=False, tools=tools)
    if not text.startswith(render_text(tokenizer, prompt, open_turn=True, tools=tools)):
        raise UserError(
            f"{where}: under the chat template of {tokenizer.name_or_path} the prompt is not a prefix of "
            "prompt + completion, so the two cannot be told apart; use a template that renders earlier turns "
            "the same whatever follows"
        )
    whole, head = encode(tokenizer, text), render_prompt(tokenizer, prompt, tools)
    bos = tokenizer.bos_token_id
    if bos is not None and whole[:2] == [bos, bos]:
        raise UserError(
            f"{where}: the rendered text starts with two BOS tokens; remove one from the template"
        )
    equal = [a == b for a, b in zip(head, whole, strict=False)]
    shared = equal.index(False) if False in equal else len(equal)
    return whole[:shared], whole[shared:], shared < len(head)


def training_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """A template that marks the assistant's tokens with {% generation %}: the tokenizer's own or TRL's.

    Raises UserError when there is neither, or when the marks leave out the token that ends the turn.
    """
    from trl.chat_template_utils import get_training_chat_template, is_chat_template_stop_token_trained

    require_template(tokenizer)
    try:
        patched = get_training_chat_template(tokenizer)
    except ValueError as error:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} does not mark the assistant's tokens and TRL has "
            "no training version of it: put {% generation %} … {% endgeneration %} around them"
        ) from error
    template = patched if patched is not None else tokenizer.get_chat_template()
    if not is_chat_template_stop_token_trained(tokenizer, template):
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} leaves the token that ends a turn outside "
            "{% generation %} … {% endgeneration %}: a model trained so would never stop"
        )
    return template
