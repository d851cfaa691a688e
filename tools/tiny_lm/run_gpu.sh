#!/usr/bin/env bash
# Makes the corpus and the embedded model on one GPU machine, in one go:
#   TEACHER=/tmp/smollm2 OUT=out GENERATE_SECONDS=290 TOTAL_SECONDS=565 tools/tiny_lm/run_gpu.sh [--smoke]
# OUT gets tiny.tar (model, tokenizer, card), demonstrations.jsonl.gz, held_out.jsonl, corpus_sample.jsonl.gz,
# generation.json, training.json, log.txt: 7 files. SETUP names a file to source first (optional).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "${OUT:-out}" && cd "${OUT:-out}" && pwd)
work=${WORK:-/tmp/tiny_lm}
teacher=${TEACHER:-/tmp/smollm2}
python=${PYTHON:-python3}
generate_seconds=${GENERATE_SECONDS:-290}
train_seconds=${TRAIN_SECONDS:-}  # default: what is left of TOTAL_SECONDS
total_seconds=${TOTAL_SECONDS:-565}
more_generate=${GENERATE_ARGS:-}
more_train=${TRAIN_ARGS:-}
if [ "${1:-}" = --smoke ]; then
  generate_seconds=${GENERATE_SECONDS:-50} train_seconds=${TRAIN_SECONDS:-40}
  more_generate="--train-prompts 300 --held-out 40 $more_generate"
  more_train="--epochs 4 $more_train"
fi
mkdir -p "$work"
began=$SECONDS
exec > >(tee "$out/log.txt") 2>&1
if [ -n "${SETUP:-}" ]; then source "$SETUP"; fi
export PYTHONUNBUFFERED=1
echo "setup took $((SECONDS - began)) s"

$python "$here/generate.py" --teacher "$teacher" --out "$work" --seconds "$generate_seconds" $more_generate || exit 1
cp "$work/demonstrations.jsonl.gz" "$work/held_out.jsonl" "$work/generation.json" "$out/"
# shuffled by a fixed key order is not needed: rows come in random order already
head -c 40000000 "$work/corpus.jsonl" | sed '$d' | gzip -6 > "$out/corpus_sample.jsonl.gz"
echo "generation took $((SECONDS - began)) s; corpus $(wc -l < "$work/corpus.jsonl") rows"
$python "$here/look.py" "$work" || true

train_seconds=${train_seconds:-$((total_seconds - (SECONDS - began) - 8))}
echo "training may take $train_seconds s"
timeout $((train_seconds + 25)) $python "$here/train.py" --corpus "$work/corpus.jsonl" --out "$work/tiny" --seconds "$train_seconds" $more_train || exit 1
mv "$work/tiny/training.json" "$out/"
tar -C "$work" -cf "$out/tiny.tar" tiny
ls -l "$work/tiny" "$out"
echo "the whole took $((SECONDS - began)) s"
