"""YAML and key=value arguments to typed sections; errors in one line, in under a second, naming line and key.

Our own sections are pydantic and refuse unknown keys. The `trainer:` section has the option names of the
trainer's own config class (TRL's SFTConfig and so on); see trainer_keys.py for how they are checked.
"""

import difflib
import importlib
import importlib.util
import os
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import pydantic

from alignment.backend.trainer_keys import check_trainer
from alignment.backend.yaml_lines import KeyPath, read_yaml
from alignment.errors import UserError


class Section(pydantic.BaseModel):
    """A part of a config: unknown keys and wrong types are errors; each field is described below it."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class LoraSection(Section):
    """Low-rank adapters in place of training every weight."""

    r: int = pydantic.Field(16, ge=1)
    """Rank of the adapters."""
    alpha: int = pydantic.Field(32, ge=1)
    """Scale: the adapter's output is multiplied by alpha / r."""
    dropout: float = pydantic.Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: str | list[str] = "all-linear"
    """Names of the layers that get an adapter; "all-linear" is every linear layer but the head."""
    dora: bool = False
    """Weight-decomposed adapters (DoRA)."""


class ModelSection(Section):
    """Which model, and how its weights are held."""

    path: str
    """A folder, a run directory, "tiny" (the embedded model), or a hub id (which is then downloaded)."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights; "auto" is bfloat16 for adapters on a GPU that has it, float32 otherwise."""
    attention: str | None = None
    """Attention implementation (sdpa, eager, flash_attention_2 …); null lets transformers choose."""
    lora: LoraSection | None = None
    """Adapters to train; null trains every weight."""
    quantize: Literal["4bit", "8bit"] | None = None
    """Hold the frozen base quantised (needs bitsandbytes and lora)."""


class SourceSection(Section):
    """One source of a mixture."""

    path: str
    """A file, folder or glob of records."""
    weight: float | None = pydantic.Field(None, gt=0)
    """Its share of the rows, relative to the other weights; give every source one, or none."""
    max_rows: int | None = pydantic.Field(None, ge=1)
    """Draw only from so many of its rows, chosen by data.seed."""
    repeat: bool = False
    """Use its rows again once they have run out, which otherwise ends the mixture or is an error."""


def _form(entry: Any) -> str:
    return "dict[source]" if isinstance(entry, dict | SourceSection) else "str"


# Without the tags pydantic would complain of both forms; they are written as _is_tag knows them.
TrainSource = Annotated[
    Annotated[str, pydantic.Tag("str")] | Annotated[SourceSection, pydantic.Tag("dict[source]")],
    pydantic.Discriminator(_form),
]


class DataSection(Section):
    """Which records to train and validate on."""

    train: list[TrainSource] = pydantic.Field(min_length=1)
    """Files, folders or globs of records; or sources with a weight each: {path: a.jsonl, weight: 0.7}."""
    seed: int = pydantic.Field(0, ge=0)
    """Of the rows that a mixture draws."""
    validation: list[str] = []
    """Files, folders or globs held out."""
    validation_fraction: float = pydantic.Field(0.0, ge=0, lt=1)
    """Share of the training prompts to hold out instead, chosen by a hash of the prompt."""
    how: Literal["each", "majority", "model", "dawid-skene"] = "each"
    """How the judgments of several people become pairs; the last two are models of all judges."""
    pairs_per_prompt: int | None = pydantic.Field(None, ge=1)
    """Of each prompt train on only so many pairs, those farthest apart in rank first; null takes all."""
    max_rows: int | None = pydantic.Field(None, ge=1)
    """Use only so many rows."""
    max_truncated: float = pydantic.Field(0.02, ge=0, le=1)
    """Refuse to train when a larger share of the rows is over max_length."""

    def train_paths(self) -> list[str]:
        """The paths of `train`, whichever way they were given."""
        return [source.path for source in self.train_sources()]

    def paths(self) -> list[str]:
        """All paths, of training and of validation."""
        return [*self.train_paths(), *self.validation]

    def train_sources(self) -> list[SourceSection]:
        """The entries of `train`, a plain path as a source without options."""
        return [
            SourceSection(path=entry, weight=None, max_rows=None) if isinstance(entry, str) else entry
            for entry in self.train
        ]

    @pydantic.field_validator("train", "validation", mode="before")
    @classmethod
    def _one_path(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @pydantic.model_validator(mode="after")
    def _weights_for_all_or_none(self) -> Self:
        sources = self.train_sources()
        plain = [source.path for source in sources if source.weight is None]
        if plain and len(plain) < len(sources):
            raise ValueError(f"data.train: {plain[0]} has no weight; give every source one, or none")
        for source in sources:
            if source.repeat and source.weight is None:
                raise ValueError(f"data.train: {source.path} has repeat but no weight; give it one")
        return self

    @pydantic.model_validator(mode="after")
    def _one_source_of_validation(self) -> Self:
        if self.validation and self.validation_fraction:
            raise ValueError("validation and validation_fraction exclude each other; give one")
        return self


class RunSection(Section):
    """Where the run is kept, and its seed."""

    dir: str
    """The run directory."""
    seed: int = pydantic.Field(0, ge=0)
    """Of everything random: initial adapters, data order, dropout, sampling."""
    overwrite: bool = False
    """Delete a finished run of the same directory first."""
    resume: bool = False
    """Refuse to start anew: there must be an unfinished run to go on with."""
    tracking: list[Literal["tensorboard", "trackio", "wandb"]] = []
    """Where to send metrics besides the run directory; nothing unless named."""
    name: str | None = None
    """The run's name for the trackers."""

    @pydantic.field_validator("tracking")
    @classmethod
    def _installed(cls, tracking: list[str]) -> list[str]:
        for name in tracking:
            if importlib.util.find_spec(name) is None:
                raise ValueError(f"run.tracking: {name} is not installed (pip install 'alignkit[track]')")
        return tracking


class RunConfig(Section):
    """What every stage has, evaluation included."""

    stage: str
    run: RunSection


class StageConfig(RunConfig):
    """What every stage that trains has; each stage's Config adds its own sections and its trainer class."""

    trainer_class: ClassVar[str] = ""
    """"module:Class" of the trainer's config class, whose options the `trainer:` section takes."""

    model: ModelSection
    data: DataSection
    trainer: dict[str, Any] = {}
    """Options of the trainer, under the names that its library gives them."""


Config = TypeVar("Config", bound=Section)


def load_config(cls: type[Config], source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config file (a path, or the name of a shipped one) as `cls`, `key.key=value` overrides on top.

    Raises UserError naming the file, the line, the key and the nearest known key. Imports no trainer library.
    """
    values: dict[str, tuple[Any, str]] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        where = f"argument {override!r}"
        if not equals or not all(key.split(".")):
            raise UserError(f"{where}: an override is written key=value, for example run.seed=1")
        values[key.strip()] = (read_yaml(text, where)[0], where)
    return load_config_with(cls, source, values)


def load_config_with(cls: type[Config], source: str | Path, values: dict[str, tuple[Any, str]]) -> Config:
    """`load_config` with the overrides as data: dotted key -> (value, where it was given, for errors)."""
    path = resolve_config_path(str(source))
    data, lines = read_yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(data, dict):
        raise UserError(f"{path}: a config is a mapping of sections, got {type(data).__name__}")
    places: dict[KeyPath, str] = {}
    for dotted, (value, where) in values.items():
        keys = tuple(dotted.split("."))
        _put(data, keys, value, where)
        places[keys] = where

    def place(keys: KeyPath) -> str:
        for end in range(len(keys), 0, -1):
            if keys[:end] in places:
                return places[keys[:end]]
            if keys[:end] in lines:
                return f"{path}, line {lines[keys[:end]]}"
        return str(path)

    try:
        config = cls.model_validate(data)
    except pydantic.ValidationError as error:
        raise UserError(_sentence(cls, error, place)) from None
    if isinstance(config, StageConfig) and cls.trainer_class:  # type: ignore[attr-defined]
        config.trainer = check_trainer(
            config.trainer, config.trainer_class, lambda key: place(("trainer", key))
        )
    return config


def resolve_config_path(name: str) -> Path:
    """A config's path: `name` as a path, else in the checkout's configs/, else in the package."""
    import alignment

    package = Path(alignment.__file__).parent
    roots = [Path(), package.parent / "configs", package / "_configs"]
    for root in roots:
        for candidate in (root / name, root / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    shipped = shipped_configs()
    near = difflib.get_close_matches(name, shipped, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(f"no config file {name!r}, here or among the shipped ones{hint}")


def configs_folder() -> Path:
    """The folder of the shipped configs: the checkout's configs/, else the one inside the package."""
    import alignment

    package = Path(alignment.__file__).parent
    checkout = package.parent / "configs"
    return checkout if checkout.is_dir() else package / "_configs"


def shipped_configs() -> list[str]:
    """Names such as "smollm2-135m/sft.yaml" of every shipped config."""
    folder = configs_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))


def _put(data: dict[str, Any], keys: Sequence[str], value: Any, where: str) -> None:
    """Set data[k1][k2]… = value in place, making the sections on the way."""
    for key in keys[:-1]:
        if data.get(key) is None:
            data[key] = {}
        data = data[key]
        if not isinstance(data, dict):
            raise UserError(f"{where}: {key!r} is not a section")
    data[keys[-1]] = value


def _sentence(cls: type[Section], error: pydantic.ValidationError, place: Any) -> str:
    """The first complaint as one sentence; an unknown key goes first, for it explains a missing one."""
    details = error.errors()
    detail = next((item for item in details if item["type"] == "extra_forbidden"), details[0])
    # pydantic puts the names of union members among the keys; only what is in the file counts for the user
    keys = tuple(key for key in detail["loc"] if not _is_tag(key))
    dotted = ".".join(str(key) for key in keys)
    if detail["type"] == "extra_forbidden":
        known = _fields_at(cls, keys[:-1])
        near = difflib.get_close_matches(str(keys[-1]), known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known)}"
        return f"{place(keys)}: unknown key {dotted!r}{hint}"
    if detail["type"] == "missing":
        return f"{place(keys)}: the key {dotted!r} is missing"
    if detail["type"] == "value_error":  # raised by a validator of ours, which says what is wrong by itself
        return f"{place(keys)}: {detail['msg'].removeprefix('Value error, ')}"
    message = detail["msg"].replace("Input should be", "must be")
    return f"{place(keys)}: {dotted} {message}, got {detail['input']!r}"


def _is_tag(key: str | int) -> bool:
    return isinstance(key, str) and (key in ("str", "int", "float", "bool", "list[str]") or "[" in key)


def _fields_at(cls: type[Section], keys: Sequence[str | int]) -> list[str]:
    """The known keys of the section that `keys` leads to."""
    section: Any = cls
    for key in keys:
        if isinstance(key, int):
            continue
        section = (
            _section_of(section.model_fields[key].annotation) if key in section.model_fields else section
        )
    return list(section.model_fields)


def _section_of(annotation: Any) -> Any:
    """The Section class inside an annotation such as `Lora | None` or `list[Step]`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation
    for arm in typing.get_args(annotation):
        found = _section_of(arm)
        if isinstance(found, type) and issubclass(found, Section):
            return found
    return annotation


def config_differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Dotted keys at which two dumped configs differ, in order."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[str] = []
        for key in {**old, **new}:
            found += config_differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    return [] if old == new else [prefix]


def trainer_args(config: StageConfig, output_dir: str | Path, **forced: Any) -> Any:
    """The trainer's config object: our defaults, then the `trainer:` section, then `forced`.

    Defaults: bf16 mixed precision only on a GPU that has it, activation checkpointing only on a GPU, no data
    workers, two checkpoints kept, the run's seed everywhere, no tracker unless named, loss as logged (no
    smoothing over NaN), and callbacks (early stopping) restored on resume. torch_compile is kept from the
    trainer, which would compile the model whole and anew for each shape: see unpadded.quicken. Raises
    UserError when the library refuses a combination of options.
    """
    import torch

    if torch.cuda.device_count() > 1 and "RANK" not in os.environ:
        raise UserError(
            f"{torch.cuda.device_count()} GPUs are visible to one process: add --processes "
            f"{torch.cuda.device_count()} to use them all, or set CUDA_VISIBLE_DEVICES=0 to use one"
        )
    module, name = config.trainer_class.split(":")
    trainer_config = getattr(importlib.import_module(module), name)
    gpu = torch.cuda.is_available()
    given = dict(config.trainer)
    for old in (
        "gradient_checkpointing",
        "gradient_checkpointing_kwargs",
    ):  # the names before transformers 5.2
        if old in given:
            given.setdefault(old.replace("gradient", "activation"), given.pop(old))
    checkpointing = trainer_config.__dataclass_fields__["gradient_checkpointing"].default
    options: dict[str, Any] = {
        "bf16": gpu and torch.cuda.is_bf16_supported() and not given.get("fp16"),
        "activation_checkpointing": gpu and checkpointing,
        "use_cpu": not torch.accelerator.is_available(),  # without it torchrun on CPUs trains N models apart
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": gpu,
        "save_total_limit": 2,
        "logging_nan_inf_filter": False,
        "restore_callback_states_from_checkpoint": True,
        **given,
        "output_dir": str(output_dir),
        "seed": config.run.seed,
        "data_seed": config.run.seed,
        "report_to": list(config.run.tracking) or "none",
        "run_name": config.run.name or Path(config.run.dir).name,
        "disable_tqdm": True,
        **forced,
    }
    # TRL's class-level default of the deprecated name would warn although nobody set it.
    options["gradient_checkpointing"] = options["activation_checkpointing"]
    compiled = options.pop("torch_compile", False)
    try:
        args = trainer_config(**options)
    except ValueError as error:
        raise UserError(f"the trainer section of {config.run.dir}: {' '.join(str(error).split())}") from error
    args.torch_compile = compiled
    return args
