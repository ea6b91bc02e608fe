#!/usr/bin/env bash
# A 16-bit RGB TIFF with separate planes is read as noise (Pillow 12.3.0, tifffile 2026.3.3; observed 2026-11-29).
#
# Renders, film scans and microscopes give 16-bit TIFFs, and tifffile writes separate planes for RGB arrays with the
# channels first, as those of PyTorch are. Pillow reads such a file, if it is not compressed, with the low and high
# bytes as pixels side by side: the upper half of each plane, stretched, full of noise, no error, and the right size.
# The same file with zlib, with 8 bits or with interleaved channels is right, so a data set can be part good, part
# bad.
# Expected: the high bytes, as for a compressed file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.2.6 pillow==12.3.0 tifffile==2026.3.3
cd "$folder"
"$folder/venv/bin/python" -I - <<'PYTHON'
import numpy as np
import tifffile
from PIL import Image

height, width = 32, 48
channels_first = np.random.default_rng(0).integers(0, 65536, (3, height, width), dtype=np.uint16)
channels_last = channels_first.transpose(1, 2, 0)
high_bytes = (channels_last >> 8).astype(np.uint8)


def read(pixels, **options):
    tifffile.imwrite("image.tiff", pixels, photometric="rgb", **options)
    assert np.array_equal(tifffile.imread("image.tiff"), pixels)
    with Image.open("image.tiff") as image:
        return np.array(image)


separate = read(channels_first)
zlib = read(channels_first, compression="zlib")
eight_bits = read((channels_first >> 8).astype(np.uint8))
interleaved = read(channels_last)
for name, got in (("separate", separate), ("zlib", zlib), ("8 bits", eight_bits), ("interleaved", interleaved)):
    share = (got == high_bytes).mean()
    print(f"{name}: {got.shape}, {got.dtype}, {share:.1%} of the values are right")

both_bytes = channels_first.astype("<u2").view(np.uint8).reshape(3, -1)
as_bytes = both_bytes[:, : height * width].reshape(3, height, width).transpose(1, 2, 0)
print("the wrong one is the first half of each plane's bytes:", np.array_equal(separate, as_bytes))

assert all(np.array_equal(each, high_bytes) for each in (zlib, eight_bits, interleaved))
assert separate.shape == high_bytes.shape
assert (separate == high_bytes).mean() < 0.1
PYTHON
echo "As described."
