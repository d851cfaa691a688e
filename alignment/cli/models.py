"""The commands that use models: generate, export and chat."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignment.backend.config import ModelSection, load_config
from alignment.cli.groups import ConfigArgument, Overrides

if TYPE_CHECKING:
    from alignment.backend.generation import GenerationSection

Seed = Annotated[int, typer.Option(help="Of the samples.")]


def generate(
    config: ConfigArgument,
    overrides: Overrides = None,
    n: Annotated[int | None, typer.Option(help="Completions for each prompt.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")] = False,
) -> None:
    """Sample completions for prompts, as records to rank. The same command again goes on where it stopped."""
    from alignment.backend.generation.settings import GenerateConfig

    given = [*(overrides or []), *([f"n={n}"] if n else []), *(["overwrite=true"] if overwrite else [])]
    loaded = load_config(GenerateConfig, config, given)
    from alignment.backend.generation.stage import run

    print(json.dumps(run(loaded), indent=2))


def export(
    src: Annotated[str, typer.Argument(metavar="SRC", help="A run directory, a model folder or an adapter.")],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DST.")] = False,
) -> None:
    """Write a model as a plain folder: adapter merged, safetensors, tokenizer, chat template."""
    from alignment.backend.models import export_model

    print(export_model(src, dst, overwrite))


def chat(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL…", help="One model or two: run directories, folders, tiny.")
    ],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 0.7,
    seed: Seed = 0,
) -> None:
    """Talk to a model, or to two side by side. An empty line or Ctrl-D ends; /new starts over."""
    from alignment.errors import UserError

    if len(models) > 2:
        raise UserError(f"chat takes one model or two, not {len(models)}")
    from rich.console import Console

    from alignment.backend.generation import GenerationSection
    from alignment.backend.models import load_policy, load_tokenizer

    settings = GenerationSection(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    speakers = [(load_policy(ModelSection(path=p), trainable=False), load_tokenizer(p)) for p in models]
    histories: list[list[dict[str, Any]]] = [[] for _ in models]
    console = Console()
    while True:
        try:
            said = console.input("[bold]you:[/bold] ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not said:
            return
        if said == "/new":
            histories = [[] for _ in models]
            continue
        for history in histories:
            history.append({"role": "user", "content": said})
        settings = settings.model_copy(update={"seed": settings.seed + 1})
        answers = [
            _answer(*speaker, history, settings) for speaker, history in zip(speakers, histories, strict=True)
        ]
        _show(console, models, answers)
        for history, answer in zip(histories, answers, strict=True):
            history.append({"role": "assistant", "content": answer})


def _answer(model: Any, tokenizer: Any, history: list[dict[str, Any]], settings: "GenerationSection") -> str:
    from alignment.backend.generation import generate as sample

    ((got,),) = sample(model, tokenizer, [history], settings)
    return got.text if got.finished else got.text + " …"


def _show(console: Any, models: list[str], answers: list[str]) -> None:
    """Answers in panels side by side; text is shown as it is, without markup."""
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.text import Text

    width = console.width // len(models) - 1
    panels = [
        Panel(Text(answer), title=Text(name), width=width)
        for name, answer in zip(models, answers, strict=True)
    ]
    console.print(Columns(panels))
