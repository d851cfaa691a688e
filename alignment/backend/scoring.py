"""Scores for texts: any reward model, ours or foreign, as a callable that gives one number a completion.

A text has the same score alone and in a batch. The conversation is rendered with the scorer's own template
and tokenized with its own tokenizer, whatever the policy's are. Any callable with the shape of `Scorer` can
stand in for a reward model.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from alignment.backend.chat import Messages, fingerprint, render_conversations, say_once
from alignment.backend.ensembles import Combine, combined, read_ensemble
from alignment.backend.models import load_reward_model, load_tokenizer, resolve_model_path
from alignment.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

TOKEN = "ALIGNKIT_REWARD_TOKEN"  # noqa: S105 (the environment variable that holds it)
AT_ONCE = 256  # texts in one request to a scorer behind HTTP


class Scorer(Protocol):
    """What gives rewards: prompts, completions and whether each ended by itself -> one float each."""

    name: str

    def score(
        self,
        prompts: Sequence[Messages],
        completions: Sequence[str],
        finished: Sequence[bool] | None = None,
    ) -> list[float]: ...


class RewardScorer:
    """A sequence-score model, or an ensemble of them, with its tokenizer. Build it with `load_scorer`.

    parts: the models (by default `model` alone); an (adapter's name, PeftModel) is it with that adapter. A
    model with several outputs is as many members. levels: what is taken off each member's scores (see
    ensembles.py). remember: so many texts keep their scores for when they come again. In training none does:
    with whom a text shares a batch moves its score in the last bits, and a resumed run must find the same.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        max_length: int,
        token_budget: int = 32_768,
        parts: Sequence[Any] | None = None,
        levels: Sequence[float] | None = None,
        combine: Combine = "mean",
        penalty: float = 0.1,
        remember: int = 0,
    ) -> None:
        from alignment.backend.unpadded import without_padding

        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.max_length, self.token_budget = max_length, token_budget
        self.parts, self.levels = parts or [model], levels
        self.combine, self.penalty, self.remember = combine, penalty, remember
        self.truncated = 0  # texts that were longer than max_length, since the start
        self._known: OrderedDict[tuple[int, ...], list[float]] = OrderedDict()
        models = [part[1] if isinstance(part, tuple) else part for part in self.parts]
        self.padded = any([without_padding(model) for model in models])  # noqa: C419 (each model is asked)

    @property
    def count(self) -> int:
        """How many members there are."""
        from alignment.backend.heads import unwrap

        return sum(
            unwrap(part[1] if isinstance(part, tuple) else part).config.get_text_config().num_labels
            for part in self.parts
        )

    def score(
        self,
        prompts: Sequence[Messages],
        completions: Sequence[str],
        finished: Sequence[bool] | None = None,
    ) -> list[float]:
        """One score for each prompt and completion, in order; of an ensemble by `combine`.

        `finished[i]` False: the completion was cut off and is read without a closing EOS. Texts longer than
        `max_length` lose their first tokens (counted in `truncated`, said once).
        """
        return self.one_each(self.members(prompts, completions, finished))

    __call__ = score

    def members(
        self,
        prompts: Sequence[Messages],
        completions: Sequence[str],
        finished: Sequence[bool] | None = None,
    ) -> list[list[float]]:
        """As `score`, with the score of each member, one of a model alone."""
        finished = [True] * len(completions) if finished is None else finished
        return self.members_of_ids(render_conversations(self.tokenizer, prompts, completions, finished))

    def score_ids(self, ids: Sequence[Sequence[int]]) -> list[float]:
        """Scores of conversations given as token ids of this scorer's tokenizer, in order."""
        return self.one_each(self.members_of_ids(ids))

    def members_of_ids(self, ids: Sequence[Sequence[int]]) -> list[list[float]]:
        """As `score_ids`, with the score of each member."""
        kept = [tuple(row[-self.max_length :]) for row in ids]
        cut = sum(len(row) > self.max_length for row in ids)
        if cut:
            self.truncated += cut
            say_once(f"{self.name}: texts over {self.max_length} tokens are scored without their beginning")
        from alignment.backend.batching import batches_by_length

        found = {row: self._known[row] for row in kept if row in self._known}
        new = [row for row in dict.fromkeys(kept) if row not in found]
        for batch in batches_by_length(new, self.token_budget, self.padded):
            found.update(zip(batch, self._forward(batch), strict=True))
        for row in dict.fromkeys(kept):
            self._known[row] = found[row]
            self._known.move_to_end(row)
        while len(self._known) > self.remember:
            self._known.popitem(last=False)
        if not self.levels:
            return [found[row] for row in kept]
        return [[s - level for s, level in zip(found[row], self.levels, strict=True)] for row in kept]

    def one_each(self, members: list[list[float]]) -> list[float]:
        """Members' scores of texts, as `members` gives them, as one score each."""
        if not members or len(members[0]) == 1:
            return [row[0] for row in members]
        return combined(members, self.combine, self.penalty).tolist()

    def _forward(self, batch: Sequence[tuple[int, ...]]) -> list[list[float]]:
        import torch

        from alignment.backend.batching import pad_right

        ids, mask = pad_right(batch, self.tokenizer.pad_token_id or 0, self.model.device)
        columns = []
        with torch.no_grad():
            for part in self.parts:
                adapter, model = part if isinstance(part, tuple) else (None, part)
                if adapter is not None:
                    model.set_adapter(adapter, inference_mode=True)
                columns.append(model(input_ids=ids, attention_mask=mask).logits.float())
        return torch.cat(columns, dim=1).tolist()

    def tell_if_foreign(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        """True, and said once, when the policy's tokenizer or template is not this scorer's."""
        own = self.tokenizer
        same = own.get_vocab() == tokenizer.get_vocab() and fingerprint(own.chat_template) == fingerprint(
            tokenizer.chat_template
        )
        if not same:
            say_once(f"{self.name} has a tokenizer or template of its own: texts are re-rendered for it")
        return not same


class HttpScorer:
    """A scorer behind HTTP: `alignkit reward serve`, or anything that speaks its two endpoints."""

    def __init__(self, url: str, timeout: float = 600.0) -> None:
        import httpx

        self.url = url.rstrip("/")
        token = os.environ.get(TOKEN)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        patient = httpx.HTTPTransport(retries=5)  # of connecting, as when the service is starting anew
        self.client = httpx.Client(timeout=timeout, headers=headers, transport=patient)
        self.name = str(self._ask("GET", "/health")["name"])

    def score(
        self,
        prompts: Sequence[Messages],
        completions: Sequence[str],
        finished: Sequence[bool] | None = None,
    ) -> list[float]:
        """As `RewardScorer.score`. Raises UserError when the service cannot be reached or refuses."""
        return [score for part in self._parts(prompts, completions, finished) for score in part["scores"]]

    __call__ = score

    def members(
        self,
        prompts: Sequence[Messages],
        completions: Sequence[str],
        finished: Sequence[bool] | None = None,
    ) -> list[list[float]]:
        """As `RewardScorer.members`."""
        return [row for part in self._parts(prompts, completions, finished) for row in part["members"]]

    def _parts(self, prompts: Any, completions: Any, finished: Any) -> list[dict[str, Any]]:
        ended = [True] * len(completions) if finished is None else list(finished)
        parts = []
        for start in range(0, len(completions), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            body = {
                "prompts": [list(prompt) for prompt in prompts[rows]],
                "completions": list(completions[rows]),
                "finished": ended[rows],
            }
            parts.append(self._ask("POST", "/score", body))
            if len(parts[-1].get("scores", [])) != len(body["completions"]):
                raise UserError(
                    f"the scorer at {self.url} gave another number of scores than it was asked for"
                )
        return parts

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        import httpx

        try:
            answer = self.client.request(method, self.url + path, json=body)
        except httpx.HTTPError as error:
            raise UserError(f"the scorer at {self.url} cannot be reached: {error}") from None
        if answer.status_code != httpx.codes.OK:
            raise UserError(f"the scorer at {self.url} refused ({answer.status_code}): {answer.text[:300]}")
        return answer.json()


def load_scorer(
    path: str,
    *,
    max_length: int | None = None,
    token_budget: int = 32_768,
    device: str | torch.device | None = None,
    combine: Combine = "mean",
    penalty: float = 0.1,
    remember: int = 0,
) -> RewardScorer | HttpScorer:
    """The reward model at `path` (run directory, plain folder, adapter or hub id), ready to score.

    An ensemble scores by `combine` (see ensembles.combined). An http(s) address is a scorer behind HTTP,
    which goes by its own settings. UserError where there is no reward model, or no chat template.
    """
    if path.startswith(("http://", "https://")):
        return HttpScorer(path)
    from alignment.backend.chat import require_template
    from alignment.backend.config import ModelSection

    folder = resolve_model_path(path)
    ensemble = read_ensemble(folder)
    apart = ensemble is not None and ensemble.kind == "runs"
    folders = [str(Path(folder) / str(k)) for k in range(ensemble.members)] if apart and ensemble else [path]
    tokenizer = load_tokenizer(folders[0])
    require_template(tokenizer)
    model = load_reward_model(ModelSection(path=folders[0]), trainable=False, device=device)
    parts = _members(model, folders, device)
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 4096
    return RewardScorer(
        model,
        tokenizer,
        path,
        min(max_length or longest, longest),
        token_budget,
        parts,
        ensemble.levels if ensemble else None,
        combine,
        penalty,
        remember,
    )


def _members(model: Any, folders: list[str], device: Any) -> list[Any]:
    """The models of these folders, of which `model` is the first: adapters of one base go over one base."""
    from alignment.backend.config import ModelSection
    from alignment.backend.models import base_of_adapter

    bases = {base_of_adapter(folder) for folder in folders}
    if len(folders) == 1 or len(bases) > 1 or None in bases:
        rest = [load_reward_model(ModelSection(path=p), trainable=False, device=device) for p in folders[1:]]
        return [model, *rest]
    for number, folder in enumerate(folders[1:], 1):
        model.load_adapter(folder, adapter_name=f"member{number}", is_trainable=False)
    return [("default" if number == 0 else f"member{number}", model) for number in range(len(folders))]
