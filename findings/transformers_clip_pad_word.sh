#!/usr/bin/env bash
# A padding token that is a word is taken out of the text (transformers 5.20.2; observed 2026-11-29).
#
# The tokenizers of Stable Diffusion 2.x name "!" as pad_token, since OpenCLIP pads with token 0, which is "!" inside a
# word. CLIPTokenizer then takes every "!" of a text for that token, before the byte-pair encoding: "oh!" ends with
# token 0, as padding does, in place of the word's own "!</w>", and decode(skip_special_tokens=True) drops it. A prompt
# that ends with exclamation marks is the same as a shorter one with padding, and not what OpenCLIP was trained on.
# Expected: padding changes what follows the text, not the text.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q transformers==5.20.2
cd "$folder"
export HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
"$folder/venv/bin/python" -I - <<'PYTHON'
import json
from pathlib import Path

from transformers import CLIPTokenizer

letters = [chr(code) for code in range(33, 127)]
words = [*letters, *(f"{each}</w>" for each in letters), "oh</w>", "<|startoftext|>", "<|endoftext|>"]
seen = {}
for pad in ("<|endoftext|>", "!"):
    Path("tokenizer").mkdir(exist_ok=True)
    Path("tokenizer/vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    Path("tokenizer/merges.txt").write_text("#version: 0.2\no h</w>\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": pad, "unk_token": "<|endoftext|>",
        "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
    }
    Path("tokenizer/tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = CLIPTokenizer.from_pretrained("tokenizer")
    ids = tokenizer("oh!").input_ids
    seen[pad] = tokenizer.convert_ids_to_tokens(ids)[1:-1], tokenizer.decode(ids, skip_special_tokens=True)
    print(f"pad_token {pad}: 'oh!' is {seen[pad][0]}, decoded as {seen[pad][1]!r}")

assert seen["<|endoftext|>"] == (["oh</w>", "!</w>"], "oh !")
assert seen["!"] == (["oh</w>", "!"], "oh")
PYTHON
echo "As described."
