"""Models and tokenizers from a path: policies, reward models, adapters, and plain folders made of them.

A path is a folder, a run directory (its model), a hub id, or "tiny" (the embedded model). A folder with
adapter_config.json is an adapter: its base is loaded and the adapter put on. Weights are read from
safetensors only and no code of a model's own is ever run.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment.backend.chat import ensure_pad, say_once
from alignment.backend.ensembles import FILE, read_ensemble, write_ensemble
from alignment.backend.heads import score_at_last_token, unwrap
from alignment.errors import UserError

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from alignment.backend.config import ModelSection

SCORES = "AutoModelForSequenceClassification"
TINY = Path(__file__).resolve().parents[1] / "assets" / "tiny"


def resolve_model_path(path: str) -> str:
    """The folder or hub id that `path` means. UserError for a path that is neither."""
    if path == "tiny":
        return str(TINY)
    folder = Path(path).expanduser()
    if (folder / "run.json").is_file():
        if not (folder / "model").is_dir():
            raise UserError(
                f"the run {path} has no model yet: finish it first (run its stage again to resume)"
            )
        return str(folder / "model")
    if any((folder / name).is_file() for name in ("config.json", "adapter_config.json", FILE)):
        return str(folder)
    if folder.exists():
        raise UserError(f"{path} holds no model: no config.json, adapter_config.json or run.json in it")
    parts = folder.parts
    here = len(parts) > 1 and (parts[0] == "runs" or Path(parts[0]).is_dir())
    if here or path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise UserError(f"no model at {path}: the folder does not exist")
    say_once(f"{path} is no folder here: it is taken for a model of the Hugging Face hub")
    return path


def is_adapter(path: str) -> bool:
    """True for a resolved path that is a folder with an adapter."""
    return (Path(path) / "adapter_config.json").is_file()


def is_policy_adapter(folder: str) -> bool:
    """True for an adapter of a language model: a reward model starts from it merged into its base."""
    return is_adapter(folder) and _adapter_config(folder).get("task_type") == "CAUSAL_LM"


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model path, padding on the left, with a pad token (see chat.ensure_pad)."""
    from transformers import AutoTokenizer

    folder = resolve_model_path(path)
    if is_adapter(folder) and not (Path(folder) / "tokenizer_config.json").is_file():
        folder = resolve_model_path(_adapter_config(folder)["base_model_name_or_path"])
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, padding_side="left")
    except (OSError, ValueError) as error:
        raise UserError(f"no tokenizer could be read from {path}: {_first_line(error)}") from error
    ensure_pad(tokenizer)
    return tokenizer


def load_policy(
    section: ModelSection, *, trainable: bool = True, device: str | torch.device | None = None
) -> PreTrainedModel:
    """The causal language model that `section` names.

    An adapter comes back as a PeftModel (its weights trainable if `trainable`), unless the section asks for a
    new LoRA: then the old adapter is merged first. A new LoRA is not put on here: the trainers take
    `peft_config(section, "CAUSAL_LM")`. A model that is not trainable is in eval mode on `device` (default:
    the GPU if there is one); a trainable one is left for the trainer to place.
    """
    from transformers import AutoModelForCausalLM

    _check_quantize(section, trainable)
    model = _load(AutoModelForCausalLM, section, trainable, device)
    return _place(model, section, trainable, device)


def load_reference(
    section: ModelSection, policy: PreTrainedModel, precomputed: bool = False
) -> PreTrainedModel | None:
    """For TRL: a frozen copy of a policy whose own weights are trained.

    None otherwise: with a new LoRA the reference is the policy without it, with an adapter as the model TRL
    keeps a copy of the adapter, and precomputed log-probabilities are the untrained policy's.
    """
    if section.lora is not None or hasattr(policy, "peft_config") or precomputed:
        return None
    dtype = str(policy.dtype).removeprefix("torch.")
    return load_policy(section.model_copy(update={"dtype": dtype}), trainable=False)


def load_reward_model(
    section: ModelSection,
    *,
    trainable: bool = True,
    device: str | torch.device | None = None,
    seed: int = 0,
    members: int = 1,
) -> PreTrainedModel:
    """A sequence-score model with one output, which reads its score at the last attended token.

    An ensemble of heads has an output a member; `members` asks for a new one. An adapter of a language model
    is merged into its base. From a language model a new head is drawn, N(0, 1/(d+1)) (Stiennon et al., arXiv
    2009.01325), with its own generator. A model that is not trainable must bring its head: a language
    model then raises UserError.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    _check_quantize(section, trainable)
    folder = resolve_model_path(section.path)
    heads = head_count(folder)
    outputs = read_config(plain_base(folder)).num_labels
    if not is_adapter(folder) and _is_reward_model(folder) and outputs != heads:
        raise UserError(f"{section.path} is a classifier with {outputs} outputs; a reward model has one")
    if members > 1 and heads != members and _is_reward_model(folder):
        raise UserError(
            f"{section.path} is a reward model already: an ensemble of {members} heads starts from a "
            "language model, or from an ensemble of as many"
        )
    heads = max(heads, members)
    with torch.random.fork_rng(devices=[]):  # a missing head is first filled from the global generator
        model = _load(AutoModelForSequenceClassification, section, trainable, device, num_labels=heads)
    inner = unwrap(model)
    inner.config.get_text_config().pad_token_id = load_tokenizer(section.path).pad_token_id
    if getattr(inner, "head_is_new", False):
        if not trainable:
            raise UserError(
                f"{section.path} is a language model, not a reward model: it has no score head "
                "(train one with `alignkit reward`)"
            )
        generator = torch.Generator().manual_seed(seed)
        weight = inner.score.weight
        noise = torch.randn(weight.shape, generator=generator) / math.sqrt(weight.shape[1] + 1)
        with torch.no_grad():
            weight.copy_(noise)
    return _place(model, section, trainable, device)


def head_count(folder: str) -> int:
    """Outputs of the reward model at a resolved path: of an ensemble of heads as many as members, else 1."""
    ensemble = read_ensemble(folder)
    return ensemble.members if ensemble is not None and ensemble.kind == "heads" else 1


def base_of_adapter(path: str) -> str | None:
    """The resolved path of the base that the adapter at `path` is for; None where there is no adapter."""
    folder = resolve_model_path(path)
    if not is_adapter(folder):
        return None
    return resolve_model_path(_adapter_config(folder)["base_model_name_or_path"])


def peft_config(section: ModelSection, task: str) -> LoraConfig | None:
    """The LoRA (or DoRA) that a trainer is to put on; None without `model.lora`.

    `task` is "CAUSAL_LM" or "SEQ_CLS"; a score head is trained whole and saved with the adapter.
    """
    if section.lora is None:
        return None
    from peft import LoraConfig

    lora = section.lora
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_dora=lora.dora,
        bias="none",
        task_type=task,
        modules_to_save=["score"] if task == "SEQ_CLS" else None,
    )


def weights_dtype(section: ModelSection, whole: bool, device: Any = None) -> str:
    """What "auto" means: float32 on a CPU or where the whole model is trained, else bfloat16 or float16."""
    import torch

    if section.dtype != "auto":
        return section.dtype
    if not torch.cuda.is_available() or whole or str(device) == "cpu":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def export_model(src: str, dst: str | Path, overwrite: bool = False) -> str:
    """Write the model at `src` as a plain folder: adapter merged, safetensors, tokenizer, chat template.

    Merging is done in float32 and saved in the base's dtype. Nothing is left at `dst` if it fails.
    """
    folder = resolve_model_path(src)
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    from alignment.data.files import atomic_output

    ensemble = read_ensemble(folder)
    if ensemble is not None and ensemble.kind == "runs":
        raise UserError(f"{src} is an ensemble of {ensemble.members} models: export {folder}/0 and so on")
    auto = AutoModelForSequenceClassification if _is_reward_model(folder) else AutoModelForCausalLM
    scores = auto is AutoModelForSequenceClassification
    labels: dict[str, Any] = {"num_labels": head_count(folder)} if scores else {}
    with atomic_output(dst, overwrite=overwrite) as temporary:
        if is_adapter(folder):
            saved_dtype = read_config(plain_base(folder)).dtype
            model = _load_path(auto, folder, dtype="float32", **labels).merge_and_unload()
            model = model.to(saved_dtype) if saved_dtype is not None else model
        else:
            model = _load_path(auto, folder, dtype="auto", **labels)
        with _quiet_loading():
            model.save_pretrained(temporary)
        load_tokenizer(folder).save_pretrained(temporary)
        if ensemble is not None:
            write_ensemble(temporary, ensemble)
    return str(dst)


def _load(auto: Any, section: ModelSection, trainable: bool, device: Any, **extra: Any) -> Any:
    """The model of a section through `auto.from_pretrained`, dtype and quantisation settled."""
    folder = resolve_model_path(section.path)
    to_score = auto.__name__ == SCORES and is_policy_adapter(folder)
    whole = trainable and section.lora is None and (to_score or not is_adapter(folder))
    options: dict[str, Any] = {"dtype": weights_dtype(section, whole, device), **extra}
    if section.attention is not None:
        options["attn_implementation"] = section.attention
    if section.quantize is not None:
        options |= _quantization(section)
    if is_adapter(folder) and (section.lora is not None or to_score):
        if section.quantize is not None:
            raise UserError(
                f"model.path {section.path} is an adapter, which cannot be merged into quantised weights: "
                "run `alignkit export` on it first"
            )
        model = _merged(_load_path(auto, folder, **options))
    else:
        model = _load_path(auto, folder, trainable=trainable, **options)
    # PEFT writes this name into adapter_config.json: the embedded model is found again anywhere.
    unwrap(model).name_or_path = "tiny" if folder == str(TINY) else _absolute(folder)
    return model


def _load_path(auto: Any, folder: str, trainable: bool = False, **options: Any) -> Any:
    """A model from a resolved path: plain, or a PeftModel over its base (merged, if an adapter itself)."""
    if is_adapter(folder):
        from peft import PeftConfig, PeftModel

        base = resolve_model_path(_adapter_config(folder)["base_model_name_or_path"])
        model = _merged(_load_path(auto, base, **options))
        config = PeftConfig.from_pretrained(folder)
        if auto.__name__ == SCORES and is_policy_adapter(folder):
            config.task_type = None  # PEFT would look for what a language model has; the layers are the same
        with _quiet_loading():
            wrapped = PeftModel.from_pretrained(model, folder, is_trainable=trainable, config=config)
        model.head_is_new = model.head_is_new and "score" not in (
            _adapter_config(folder)["modules_to_save"] or []
        )
        return wrapped
    try:
        with _quiet_loading():
            model, report = auto.from_pretrained(
                folder, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **options
            )
    except (OSError, ImportError, ValueError) as error:
        raise UserError(f"the model {folder} could not be loaded: {_first_line(error)}") from error
    score_at_last_token(model)
    model.head_is_new = any(key.startswith("score.") for key in report["missing_keys"])
    lost = [key for key in report["missing_keys"] if not key.startswith("score.")]
    if lost:
        raise UserError(f"the model {folder} lacks {len(lost)} weights ({lost[0]}, …): it is incomplete")
    return model


def _merged(model: Any) -> Any:
    """A model with its adapter in its weights; one without an adapter as it is."""
    if not hasattr(model, "peft_config"):
        return model
    plain = model.merge_and_unload().requires_grad_(True)  # PEFT had frozen the base
    plain.head_is_new = getattr(plain, "head_is_new", False)
    return plain


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Without transformers' bars, and without the load report, which lists a new score head at length."""
    from transformers import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _check_quantize(section: ModelSection, trainable: bool) -> None:
    if section.quantize is None:
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"model.quantize: {section.quantize} needs bitsandbytes, which is not installed: "
            "pip install 'alignkit[quant]'"
        )
    if trainable and section.lora is None and not is_adapter(resolve_model_path(section.path)):
        raise UserError(
            "model.quantize: quantised weights cannot be trained; add model.lora to train an adapter"
        )


def _quantization(section: ModelSection) -> dict[str, Any]:
    import torch
    from transformers import BitsAndBytesConfig

    if section.quantize == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    place = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    return {"quantization_config": config, "device_map": {"": place}}


def _place(model: Any, section: ModelSection, trainable: bool, device: Any) -> Any:
    import torch

    if trainable:
        return model.train()
    if section.quantize is None:
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model.eval().requires_grad_(False)


def _adapter_config(folder: str) -> dict[str, Any]:
    config = json.loads((Path(folder) / "adapter_config.json").read_text())
    if not config.get("base_model_name_or_path"):
        raise UserError(
            f"{folder}/adapter_config.json does not name its base model (base_model_name_or_path)"
        )
    return config


def plain_base(folder: str) -> str:
    while is_adapter(folder):
        folder = resolve_model_path(_adapter_config(folder)["base_model_name_or_path"])
    return folder


def read_config(folder: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no model configuration could be read from {folder}: {_first_line(error)}"
        ) from error


def _is_reward_model(folder: str) -> bool:
    if is_adapter(folder):
        return _adapter_config(folder).get("task_type") == "SEQ_CLS"
    return any("SequenceClassification" in name for name in read_config(folder).architectures or [])


def _absolute(folder: str) -> str:
    return str(Path(folder).resolve()) if Path(folder).exists() else folder


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
