#!/usr/bin/env bash
# The transparent grey of a PNG of 2 or 4 bits is not that of its pixels (Pillow 12.3.0; observed 2026-11-29).
#
# In a PNG of 2 or 4 bits, Pillow scales pixels to 0 ... 255, but not the grey that tRNS declares transparent, which
# it gives as info["transparency"] as it stands in the file. convert("RGBA") compares the two, so that the pixels
# that should be clear are opaque, unless they are black. Masks and sprites of that form lose their shape.
# With 1 and 8 bits the right pixels are clear.
# Expected: the same pixels clear at every depth.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.2.6 pillow==12.3.0
cd "$folder"
"$folder/venv/bin/python" -I - <<'PYTHON'
import struct
import zlib

import numpy as np
from PIL import Image


def png(path, bits, key):
    """A row of all greys of this depth, of which `key` is transparent."""
    greys = np.arange(2**bits, dtype=np.uint8)
    row = np.packbits(np.unpackbits(greys[:, None], axis=1)[:, -bits:])
    header = struct.pack(">IIBBBBB", len(greys), 1, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tRNS", struct.pack(">H", key)), (b"IDAT", zlib.compress(b"\0" + row.tobytes())),
              (b"IEND", b""))
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, data in chunks:
            file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))


seen = {}
for bits, key in ((1, 1), (2, 1), (4, 5), (8, 85)):
    png("grey.png", bits, key)
    with Image.open("grey.png") as image:
        stated, pixels = image.info["transparency"], np.array(image.convert("RGBA"))[0]
    clear = np.flatnonzero(pixels[:, 3] == 0).tolist()
    seen[bits] = clear
    print(f"{bits} bits: grey {key} is transparent, shown as {pixels[key, 0]}; Pillow states {stated}, clear are {clear}")

assert seen == {1: [1], 2: [], 4: [], 8: [85]}
PYTHON
echo "As described."
