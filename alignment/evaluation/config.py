"""The config of an evaluation: candidates, prompts, judges, and what else is measured."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from alignment.backend.config import RunConfig, RunSection, Section
from alignment.backend.generation.settings import GenerationSection
from alignment.evaluation.answers import is_endpoint, is_file


class ApiSection(Section):
    """How a model behind an address (OpenAI's protocol) is asked."""

    key_env: str | None = None
    """The environment variable that holds the key; the key itself is written nowhere."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds for one answer."""
    attempts: int = Field(default=6, ge=1)
    """Tries for each question, with growing waits between them, or those that the service asks for."""
    concurrency: int = Field(default=8, ge=1)
    """Questions asked at a time."""


class JudgeSection(Section):
    """Who decides which of two answers is better."""

    kind: Literal["program", "reward", "llm", "people"]
    """program: the stated rule of alignment/evaluation/program.py; reward: a reward model or ensemble; llm: a
    language model; people: judgments made in the labeling app."""
    path: str | None = None
    """reward, llm: a run directory, a folder or a hub id; people: a file from `alignkit label export`."""
    url: str | None = None
    """llm: instead of a path, the address of a service, up to the version: http://localhost:8000/v1."""
    model: str | None = None
    """llm: the name of the model behind the address."""
    template: str = "pairwise"
    """llm: pairwise, pairwise_reference, score, or a YAML file (see alignment/evaluation/templates)."""
    max_new_tokens: int = Field(1024, ge=1)
    """llm: the most tokens of a reply."""
    api: ApiSection = Field(default_factory=ApiSection)

    @model_validator(mode="after")
    def _what_belongs(self) -> "JudgeSection":
        if self.kind in ("reward", "people") and self.path is None:
            what = "the reward model" if self.kind == "reward" else "the export of the labeling app"
            raise ValueError(f"path is missing: it names {what}")
        if self.kind == "llm" and (self.path is None) == (self.url is None):
            raise ValueError("give a path (a local model) or a url with a model (a service), not both")
        if (self.url is None) != (self.model is None):
            raise ValueError("url and model go together: the address, and the model's name behind it")
        if self.kind != "llm" and self.url is not None:
            raise ValueError("url and model are for kind: llm")
        if self.kind == "program" and self.path is not None:
            raise ValueError("path names a model or a file: kind program reads none")
        return self


class ProbeSection(Section):
    """What a model may have forgotten: a set of items on which every model here is measured."""

    kind: Literal["perplexity", "choices", "exact_match", "xstest", "bbq", "crows_pairs", "truthfulqa"]
    """perplexity: of held-out text; choices: which is likeliest; exact_match: an answer that it writes; and
    four sets on safety and bias in the formats that they are published in."""
    files: list[str] = Field(min_length=1)
    """Files of items (JSONL, JSON, Parquet, CSV) with the keys of probe_items.py and safety_items.py."""
    max_items: int | None = Field(default=None, ge=1)
    """Use only the first so many different items."""
    chat: bool = False
    """choices, bbq, truthfulqa: ask in the chat template, the choice being the reply, not as plain text."""
    template: str | None = None
    """The text around {question}; unless given it is "Question: {question}\\nAnswer:" for choices as plain
    text, "{question}\\nA:" for bbq and truthfulqa, else the question alone. Examples before it go here."""
    by_length: bool = True
    """choices: the log-likelihood of a choice is divided by its characters; false takes the plain sum."""
    match: Literal["text", "number"] = "text"
    """exact_match: text is SQuAD's normalised text; number takes the last number of the answer, for GSM8K."""
    max_new_tokens: int = Field(default=256, ge=1)
    """exact_match, xstest: the most tokens of an answer, which is decoded greedily."""
    window: int = Field(default=512, ge=2)
    """perplexity: tokens read at once; longer documents are read in windows that move on by half of it."""

    @field_validator("template")
    @classmethod
    def _holds_the_question(cls, template: str | None) -> str | None:
        if template is not None and "{question}" not in template:
            raise ValueError("template holds no {question}: put it where the question goes")
        return template


class Config(RunConfig):
    """The config of an evaluation."""

    stage: Literal["evaluate"] = "evaluate"
    models: dict[str, str] = Field(min_length=1)
    """Name -> a model (folder, run directory, "tiny", hub id), a file of records with completions, or a model
    behind an address (OpenAI's protocol), as http://HOST/v1#MODEL."""
    prompts: list[str] = Field(min_length=1)
    """Files of records; only their prompts are read, and each different prompt once."""
    max_prompts: int | None = Field(None, ge=1)
    """Use only the first so many prompts."""
    samples_per_prompt: int = Field(1, ge=1)
    """Answers of each model to each prompt."""
    comparisons: list[list[str]] = Field(min_length=1)
    """Pairs [a, b] of names, of models or of recipes under `seeds`: does a beat b?"""
    seeds: dict[str, list[str]] = Field(default_factory=dict)
    """Recipe -> names under `models` that were trained by it with different seeds; a comparison with the
    recipe has an interval over seeds and prompts."""
    parents: dict[str, str] = Field(default_factory=dict)
    """Model -> the model it was trained from, for the KL; both are names under `models`."""
    base: str | None = None
    """The frozen model under which the likelihood of all answers is measured; null leaves that out."""
    judge: JudgeSection
    other_judges: list[JudgeSection] = Field(default_factory=list)
    """Judges asked besides: their win rates, and how far they agree with `judge`."""
    api: ApiSection = Field(default_factory=ApiSection)
    """How candidates behind an address are asked."""
    probes: dict[str, ProbeSection] = Field(default_factory=dict)
    """Name -> what the models are measured on besides, to see what they have forgotten."""
    lm_eval: dict[str, str] = Field(default_factory=dict)
    """Model -> its lm-evaluation-harness output: results_*.json, or a folder with it and samples_*.jsonl."""
    generation: GenerationSection = GenerationSection()
    latency_prompts: int = Field(8, ge=0)
    """So many prompts are asked of each model one by one besides, to see how long one answer takes."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the models' weights."""
    likelihood_fall: float = Field(1.0, gt=0)
    """Flag a model whose answers are by so many nats a token less likely under the base than its parent's."""
    reward_run: str | None = None
    """The run directory of the reward model, whose held-out accuracy the report quotes."""
    reward_control: str | None = None
    """The run directory of a reward model trained on shuffled labels: its accuracy should be one half."""
    report: str | None = None
    """A folder that gets a copy of report.json, report.html and report.md."""
    run: RunSection

    @field_validator("probes")
    @classmethod
    def _probes_have_plain_names(cls, probes: dict[str, ProbeSection]) -> dict[str, ProbeSection]:
        for name in probes:
            _check_plain(name)
            if name.startswith("lm_eval."):
                raise ValueError(f"{name!r}: names that begin with lm_eval. are taken, choose another name")
        return probes

    @field_validator("models")
    @classmethod
    def _names_are_plain(cls, models: dict[str, str]) -> dict[str, str]:
        for name in models:
            _check_plain(name)
            if name in ("reward", "evaluate"):  # the report has stages of these names
                raise ValueError(f"{name!r} is taken, choose another name")
        return models

    def spelled_out(self, a: str, b: str) -> list[tuple[str, str]]:
        """The comparisons of models that a comparison stands for: of a recipe, one for each seed.

        Two recipes are compared seed by seed, in the order given.
        """
        ours, theirs = (self.seeds.get(name, [name]) for name in (a, b))
        count = max(len(ours), len(theirs))
        if len(ours) != len(theirs) and 1 not in (len(ours), len(theirs)):
            counts = f"{a} has {len(ours)} seeds and {b} has {len(theirs)}"
            raise ValueError(f"seeds: {counts}; give as many of both")
        return list(zip(ours * (count // len(ours)), theirs * (count // len(theirs)), strict=True))

    def pairs(self) -> list[tuple[str, str]]:
        """All comparisons of models, each once."""
        return list(dict.fromkeys(pair for a, b in self.comparisons for pair in self.spelled_out(a, b)))

    def _recipes_are_models(self) -> None:
        for recipe, members in self.seeds.items():
            _check_plain(recipe)
            if recipe in self.models:
                raise ValueError(f"seeds: {recipe!r} is a model's name too, choose another")
            if len(set(members)) < 2 or len(set(members)) < len(members):
                raise ValueError(f"seeds: {recipe!r} needs two different models or more, one a seed")
            for name in members:
                if name not in self.models:
                    known = ", ".join(self.models)
                    raise ValueError(f"seeds: {name!r} is not under models, which has {known}")

    @model_validator(mode="after")
    def _names_exist(self) -> "Config":
        for pair in self.comparisons:
            if len(pair) != 2 or pair[0] == pair[1]:
                raise ValueError(f"comparisons: a comparison is two different names [a, b], not {pair}")
        seen = [tuple(pair) for pair in self.comparisons]
        if len(set(seen)) != len(seen):
            raise ValueError("comparisons: the same pair is there twice")
        self._recipes_are_models()
        named = [*(n for pair in self.pairs() for n in pair), *self.parents, *self.parents.values()]
        named += self.lm_eval
        for name in [*named, *([self.base] if self.base else [])]:
            if name not in self.models:
                raise ValueError(f"{name!r} is not under models, which has {', '.join(self.models)}")
        for name in [*self.parents, *self.parents.values(), *([self.base] if self.base else [])]:
            if is_file(self.models[name]):
                raise ValueError(f"{name!r} is a file of completions; only models have likelihoods")
            if is_endpoint(self.models[name]):
                raise ValueError(f"{name!r} is behind an address; only models here have likelihoods")
        if self.base in self.parents:
            raise ValueError(f"base: {self.base!r} cannot have a parent")
        for name in self.parents:
            line = [name]
            while line[-1] in self.parents:
                line.append(self.parents[line[-1]])
                if line[-1] in line[:-1]:
                    raise ValueError(f"parents: {' -> '.join(line)} goes in a circle")
        return self


def _check_plain(name: str) -> None:
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name[0] == ".":
        raise ValueError(f"a name is letters, digits, - _ and ., not {name!r}")
