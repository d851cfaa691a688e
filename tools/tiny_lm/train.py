"""Train the embedded model: byte-level BPE tokenizer and a small Llama on the teacher's texts.

    python train.py --corpus CORPUS.jsonl --out DIR --seconds 160

Documents are plain text: a story alone, or 'Question: …' with 'Answer: …' on the next line. Each ends with
<|im_end|>. Documents run on in a stream cut into windows. The chat format never occurs: its tokens are there,
untrained, because instruction tuning is the first thing that a user of the model does. float32 weights,
bfloat16 arithmetic on a GPU, AdamW, cosine schedule, the checkpoint with the lowest held-out loss is kept.
DIR gets the model (bfloat16 safetensors), the tokenizer, README.md (the card) and training.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import random
import time
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "true"  # tokenising the corpus uses every core

import numpy as np
import torch
from card import write_card
from llama import Shape, hidden_states, layer_weights, shape_of
from torch.nn.functional import cross_entropy, linear

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['role'] == 'assistant' -%}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}"
    "{%- else -%}{{ message['content'] + '<|im_end|>\\n' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
SPECIALS = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
BEGAN = time.time()


def log(line: str) -> None:
    print(f"[train {time.time() - BEGAN:6.1f} s] {line}", flush=True)


def read_documents(path: Path, seed: int) -> list[str]:
    """The corpus as documents, shuffled."""
    documents = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            plain = (
                row["text"]
                if row["kind"] == "story"
                else f"Question: {row['question']}\nAnswer: {row['text']}"
            )
            documents.append(plain)
    random.Random(seed).shuffle(documents)
    return documents


def make_tokenizer(documents: list[str], size: int) -> Any:
    """Byte-level BPE of at most `size` entries with its special tokens and chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(documents, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>",
        padding_side="left", model_max_length=512, clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.chat_template = CHAT_TEMPLATE
    return fast


def token_stream(tokenizer: Any, documents: list[str], chunk: int = 20_000) -> np.ndarray:
    """All documents as one uint16 stream; <|im_end|> stands before the first and after each."""
    eos, parts = tokenizer.eos_token_id, [np.array([tokenizer.eos_token_id], np.uint16)]
    for first in range(0, len(documents), chunk):
        part = documents[first : first + chunk]
        encodings = tokenizer.backend_tokenizer.encode_batch_fast(part, add_special_tokens=False)
        parts += [np.array([*encoding.ids, eos], np.uint16) for encoding in encodings]
    return np.concatenate(parts)


def make_model(tokenizer: Any, args: argparse.Namespace) -> Any:
    """A Llama with tied embeddings, untrained, float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=args.hidden, intermediate_size=args.mlp,
        num_hidden_layers=args.layers, num_attention_heads=8, num_key_value_heads=4,
        max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # smaller steps into the residual stream (GPT-2's initialisation)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_((2 * args.layers) ** -0.5)
            layer.mlp.down_proj.weight.mul_((2 * args.layers) ** -0.5)
    return model


def logits_of(model: Any, ids: torch.Tensor, shape: Shape) -> torch.Tensor:
    """ids (b, t) → logits (b, t, vocabulary), every document of a window seen by the later ones."""
    layers = [layer_weights(layer) for layer in model.model.layers]
    embedding = model.model.embed_tokens.weight
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    states = hidden_states(embedding[ids], layers, model.model.norm.weight, shape, positions)
    return linear(states, embedding)


def write_samples(
    model: Any, tokenizer: Any, questions: list[str], device: str, seed: int, n: int = 10
) -> list[str]:
    """`n` texts from nothing and `n` answers to held-out questions, temperature 0.8, first come."""
    torch.manual_seed(seed)
    shape = shape_of(model.config)
    eos = tokenizer.eos_token_id
    texts = []
    for question in [""] * n + questions[:n]:
        start = f"Question: {question}\nAnswer:" if question else ""
        ids = [eos, *tokenizer.backend_tokenizer.encode(start, add_special_tokens=False).ids]
        for _ in range(140):
            with torch.no_grad():
                logits = logits_of(model, torch.tensor([ids], device=device), shape)[0, -1].float()
            token = int(torch.multinomial(torch.softmax(logits / 0.8, -1), 1))
            if token == eos:
                break
            ids.append(token)
        else:
            ids += tokenizer.backend_tokenizer.encode(" [cut]").ids
        texts.append(tokenizer.decode(ids[1:]))
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=160, help="of the whole script")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--mlp", type=int, default=704)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--batch", type=int, default=128, help="windows a step")
    parser.add_argument("--rate", type=float, default=2.5e-3)
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--epochs", type=float, default=12, help="at most")
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--patience", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cuda = device == "cuda"

    documents = read_documents(args.corpus, args.seed)
    held = min(max(len(documents) // 50, 4), 4000)
    tokenizer = make_tokenizer(documents[held : held + 120_000], args.vocabulary)
    log(f"{len(documents):,} documents, vocabulary {len(tokenizer)}")
    valid, train = token_stream(tokenizer, documents[:held]), token_stream(tokenizer, documents[held:])
    characters = sum(map(len, documents[:held])) / (len(valid) - 1)
    log(f"{len(train):,} tokens to train on, {len(valid):,} held out, {characters:.2f} characters a token")

    model = make_model(tokenizer, args).to(device)
    count = sum(p.numel() for p in model.parameters())
    log(f"{count:,} parameters")

    shape = shape_of(model.config)

    def loss_of(ids: torch.Tensor) -> torch.Tensor:
        logits = logits_of(model, ids[:, :-1], shape)
        return cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())

    fast = torch.compile(loss_of, dynamic=False) if cuda else loss_of
    if cuda:
        try:
            with torch.autocast(device, torch.bfloat16):
                fast(torch.zeros(args.batch, args.window + 1, dtype=torch.long, device=device)).backward()
        except Exception as error:  # whatever the compiler throws: training goes on without it, slower
            log(f"not compiled: {type(error).__name__}: {str(error)[:300]}")
            fast = loss_of
        model.zero_grad(set_to_none=True)
        log("training step ready")
    width, tokens_a_step = args.window + 1, args.batch * args.window
    stream = torch.from_numpy(train.astype(np.int32)).to(device)
    windows = (len(train) - 1) // args.window - 1
    offsets = torch.arange(width, device=device)

    def batch_at(order: torch.Tensor, step: int, shift: int) -> torch.Tensor:
        chosen = order[step * args.batch : (step + 1) * args.batch]
        return stream[(chosen * args.window + shift)[:, None] + offsets].long()

    per_epoch = windows // args.batch
    if per_epoch < 1:
        raise SystemExit(f"{windows} windows are fewer than one batch of {args.batch}")
    whole = max(1, (len(valid) - 1) // args.window)
    at = torch.arange(whole, device=device)[:, None] * args.window + offsets
    check = torch.from_numpy(valid.astype(np.int64)).to(device)[at.clamp(max=len(valid) - 1)]
    fill = -len(check) % args.batch  # full batches only, so that nothing is compiled anew
    check = torch.cat([check, check[:fill]]) if len(check) >= fill else check[: args.batch]

    def held_out() -> float:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=cuda):
            return float(torch.stack([fast(part) for part in check.split(args.batch)]).mean())

    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": args.decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.95), eps=1e-8, fused=cuda)

    steps, probe, probed, every = int(args.epochs * per_epoch), 40, time.time(), 10**9
    best, best_step, bad, weights, curve = math.inf, 0, 0, copy.deepcopy(model.state_dict()), []
    reserve = 25.0 if cuda else 2.0  # samples and saving
    step = 0
    generator = torch.Generator(device).manual_seed(args.seed)
    order, shift = torch.randperm(windows, device=device, generator=generator), 0
    while step < steps:
        if step and step % per_epoch == 0:
            order = torch.randperm(windows, device=device, generator=generator)
            shift = int(torch.randint(args.window, (1,), device=device, generator=generator))
        if step == 10:
            held_out()  # compiled here, not in the measured stretch
            probed = time.time()
        if step == 10 + probe:  # how many steps does the time allow?
            if cuda:
                torch.cuda.synchronize()
            a_step = (time.time() - probed) / probe
            left = args.seconds - reserve - (time.time() - BEGAN)
            steps = max(step + 1, min(steps, int(step + left / a_step * 0.96)))
            every = max(1, steps // args.evaluations)
            log(f"{a_step * 1e3:.1f} ms a step, {tokens_a_step / a_step:,.0f} tokens/s, {steps} steps, "
                f"{steps / per_epoch:.2f} epochs")  # fmt: skip
        warm = min(1.0, (step + 1) / 200)
        for group in optimizer.param_groups:
            group["lr"] = args.rate * warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            loss = fast(batch_at(order, step % per_epoch, shift))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        late = time.time() - BEGAN > args.seconds - reserve + 5
        if step % every == 0 or step == steps or late:
            value = held_out()
            curve.append(
                {"step": step, "tokens": step * tokens_a_step, "train": loss.item(), "held_out": value}
            )
            log(
                f"step {step} train {loss.item():.4f} held out {value:.4f} ({value / characters:.4f} a character)"
            )
            if value < best:
                best, best_step, bad, weights = value, step, 0, copy.deepcopy(model.state_dict())
            else:
                bad += 1
            if bad >= args.patience or late:
                log("stopped early" if bad >= args.patience else "stopped: the time is up")
                break

    model.load_state_dict(weights)
    final = copy.deepcopy(model).to(torch.bfloat16)
    args.out.mkdir(parents=True, exist_ok=True)
    final.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    questions = [
        d.split("\n")[0][len("Question: ") :] for d in documents[:held] if d.startswith("Question: ")
    ]
    with torch.autocast(device, torch.bfloat16, enabled=cuda):
        samples = write_samples(model, tokenizer, questions, device, args.seed)
    info = {
        "parameters": count, "documents": len(documents), "train_tokens": len(train), "held_out_tokens": len(valid),
        "vocabulary": len(tokenizer), "characters_per_token": characters, "held_out_loss": best, "held_out_per_character": best / characters,
        "best_step": best_step, "steps": step, "tokens_seen": best_step * tokens_a_step,
        "epochs": best_step / per_epoch, "seconds": round(time.time() - BEGAN, 1), "curve": curve,
        "settings": {k: v for k, v in vars(args).items() if k not in ("corpus", "out")}, "samples": samples,
    }  # fmt: skip
    generation = args.corpus.with_name("generation.json")
    if generation.exists():
        info["generation"] = json.loads(generation.read_text())
    (args.out / "training.json").write_text(json.dumps(info, indent=1) + "\n")
    write_card(args.out, info)
    log(
        f"best held-out loss {best:.4f} nats a token, {best / characters:.4f} a character, at step {best_step}"
    )
    log(
        f"{sum(f.stat().st_size for f in args.out.iterdir() if f.name != 'training.json'):,} bytes in {args.out}"
    )
    for sample in samples:
        print("---", sample, flush=True)


if __name__ == "__main__":
    main()
