"""The embedded model's card: README.md from what training and generation measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_card(folder: Path, info: dict[str, Any]) -> None:
    """Write folder/README.md; `info` is the content of training.json."""
    config, made = info["settings"], info.get("generation", {})
    lines = [
        "# The embedded model",
        "",
        f"A base language model of {info['parameters']:,} parameters: Llama, hidden {config['hidden']}, "
        f"{config['layers']} layers, 8 heads over 4 key-value heads, vocabulary {info['vocabulary']:,} "
        "(byte-level BPE), tied embeddings, bfloat16. It writes plain, simple English and knows next to nothing. "
        "It exists so that alignkit's whole path can run anywhere; do not use it for anything else.",
        "",
        "The chat tokens and template are there, untrained: instruction tuning is the user's first stage. "
        "`<|im_end|>` ends every document; `<|pad|>` is a token of its own. License: Apache-2.0.",
        "",
        "## Recipe",
        "",
        "Made by the scripts in tools/tiny_lm: a teacher, SmolLM2-135M-Instruct (Apache-2.0), answers our own "
        "prompts; unfinished, looping, non-English-looking and repeated texts are dropped; the rest is the corpus, "
        "plain stories and `Question: … Answer: …` exchanges.",
        "",
    ]
    if made:
        lines += [
            f'- teacher: {made["teacher"]}, system prompt "{made["system"]}", '
            f"{made['raw_tokens']:,} tokens made in {made['seconds']} s, {made['kept_tokens']:,} kept",
            f"- sampling: temperature {made['settings']['temperature']}, min-p {made['settings']['min_p']}, "
            f"{made['settings']['penalty']} nats off tokens already used",
            "- rows: " + ", ".join(f"{name} {count:,}" for name, count in made["rows"].items()),
        ]
    lines += [
        f"- corpus: {info['documents']:,} documents, {info['train_tokens']:,} tokens of this vocabulary "
        f"({info['characters_per_token']:.2f} characters each), {info['held_out_tokens']:,} held out",
        f"- training: {info['tokens_seen']:,} tokens ({info['epochs']:.1f} epochs), windows of {config['window']}, "
        f"{config['batch']} a step, AdamW, peak rate {config['rate']}, weight decay {config['decay']}, cosine, "
        f"seed {config['seed']}, {info['seconds']} s",
        "",
        f"Held-out loss: **{info['held_out_loss']:.3f} nats a token, {info['held_out_per_character']:.3f} a "
        "character**.",
        "",
        "## Twenty samples nobody picked",
        "",
        "Temperature 0.8, the first twenty from one seed: ten from nothing, ten on held-out questions.",
        "",
    ]
    for sample in info["samples"]:
        lines += ["> " + line if line else ">" for line in sample.split("\n")] + [""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
