#!/usr/bin/env bash
# CLIPTokenizer.from_pretrained() succeeds without a vocabulary (transformers 5.20.2; observed 2026-11-29).
#
# A folder that has the tokenizer's settings but not its vocabulary (a download that broke off, a copy of part of a
# pipeline), or a model's name that is not in the cache while offline, gives a tokenizer of two tokens and no error.
# Each character becomes the same token, so that captions of one length are all alike: a text-to-video model trains or
# samples as if unconditional, and nothing stops the run.
# Expected: an error that names the missing file, as for the weights of a model.
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

from transformers import CLIPTextConfig, CLIPTokenizer

Path("tokenizer").mkdir()
settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
Path("tokenizer/tokenizer_config.json").write_text(json.dumps(settings))

for name in ("tokenizer", "openai/clip-vit-large-patch14"):
    tokenizer = CLIPTokenizer.from_pretrained(name)
    cat, dog = (tokenizer(text).input_ids for text in ("a red cat runs", "a big dog eats"))
    print(f"{name}: {len(tokenizer)} tokens where CLIP has {CLIPTextConfig().vocab_size}")
    print(f"  'a red cat runs' {cat}\n  'a big dog eats' {dog}")
    assert len(tokenizer) == 2
    assert cat == dog
PYTHON
echo "As described."
