"""Seeded damage of files: of their bytes, and of what their headers claim, behind checksums that are right again."""

from __future__ import annotations

import io
import json
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator
Damage = Callable[[bytes, Rng], bytes]

HEAD = 4096  # bytes in which most headers lie
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
INTEGERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x80")
LETTERS = ("", " ", "\0", "-", "../../x", "é", "\ud800", "a" * 5000, "1e999", "nan", "null", "(a+)+$", "%s%n", "🎞")
LETTERS += ("8", "\u2028")
NUMBERS = (0, -1, 1, 2, 3, 7, 255, 65536, 10**6, 10**9, 2**31, 2**63, 2**64, -(2**63), 10**30, 0.5, -0.5, 1e300)
NUMBERS += (10**400,)
OTHERS = (None, True, False, math.nan, math.inf, -math.inf, [], {}, [[]], [None], {"": None}, [0] * 50, [1, [2, [3]]])
OTHERS += ([[1, 2]], [8, 8], ["x", "x"])


def damaged(data: bytes, name: str, rng: Rng) -> tuple[bytes, str]:
    """Damage a file.

    Args:
        data: The file.
        name: Its name, whose suffix says how its header can be changed.
        rng: Decides the damage.

    Returns:
        The damaged file, and what was done, as "json bytes": the damages one after the other.
    """
    special = BY_SUFFIX.get(Path(name).suffix.lower())
    done = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        if special is not None and rng.random() < 0.7:
            changed = special(data, rng)
            if changed != data:
                data = changed
                done.append(special.__name__)
                continue
        damage = BYTES[rng.integers(len(BYTES))]
        data = damage(data, rng)
        done.append(damage.__name__)
    return data, " ".join(done)


# --- bytes ---


def flip(data: bytes, rng: Rng) -> bytes:
    """Flip one to eight bits."""
    found = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        if found:
            found[_place(found, rng)] ^= 1 << int(rng.integers(8))
    return bytes(found)


def overwrite(data: bytes, rng: Rng) -> bytes:
    """Overwrite up to 64 bytes with random ones."""
    start = _place(data, rng)
    return data[:start] + rng.bytes(int(rng.integers(1, 65))) + data[start + int(rng.integers(1, 65)) :]


def cut(data: bytes, rng: Rng) -> bytes:
    """Cut the end off."""
    return data[: int(rng.integers(len(data) + 1))]


def drop(data: bytes, rng: Rng) -> bytes:
    """Take a piece out."""
    start = _place(data, rng)
    return data[:start] + data[start + int(rng.integers(1, max(2, len(data) // 4))) :]


def repeat(data: bytes, rng: Rng) -> bytes:
    """Write a piece twice."""
    start = _place(data, rng)
    stop = start + int(rng.integers(1, max(2, min(len(data) // 4, 65536))))
    return data[:stop] + data[start:]


def blank(data: bytes, rng: Rng) -> bytes:
    """Write zeros over a piece, as a file system does after a crash."""
    start = _place(data, rng)
    stop = min(len(data), start + int(rng.integers(1, max(2, len(data) // 2))))
    return data[:start] + bytes(stop - start) + data[stop:]


def integer(data: bytes, rng: Rng) -> bytes:
    """Write an extreme number of four bytes."""
    start = _place(data, rng)
    return data[:start] + INTEGERS[rng.integers(len(INTEGERS))] + data[start + 4 :]


def append(data: bytes, rng: Rng) -> bytes:
    """Append random bytes."""
    return data + rng.bytes(int(rng.integers(1, 4096)))


def empty(_data: bytes, _rng: Rng) -> bytes:
    """Leave nothing."""
    return b""


def noise(_data: bytes, rng: Rng) -> bytes:
    """Leave random bytes."""
    return rng.bytes(int(rng.integers(1, 4096)))


BYTES: tuple[Damage, ...] = (flip, flip, overwrite, cut, cut, drop, repeat, blank, integer, integer, append)
BYTES += (empty, noise)


def _place(data: bytes | bytearray, rng: Rng) -> int:
    end = min(len(data), HEAD) if rng.random() < 0.5 else len(data)
    return int(rng.integers(max(1, end)))


# --- values ---


def changed_value(value: Any, rng: Rng) -> Any:
    """Change a place in a JSON value: another value, none, another name, or the value of another place."""
    places = list(_places(value))
    if not places:
        return _odd(value, rng)
    holder, key = places[rng.integers(len(places))]
    what = rng.random()
    if what < 0.65:
        holder[key] = _odd(holder[key], rng)
    elif what < 0.8:
        del holder[key]
    elif what < 0.9 and isinstance(holder, dict):
        holder[str(_odd(key, rng))] = holder.pop(key)
    else:
        other, name = places[rng.integers(len(places))]
        holder[key] = json.loads(json.dumps(other[name])) if name in _keys(other) else None
    return value


def _keys(holder: Any) -> Any:
    return holder if isinstance(holder, dict) else range(len(holder))


def _places(value: Any) -> Any:
    for key in list(_keys(value)) if isinstance(value, dict | list) else ():
        yield value, key
        yield from _places(value[key])


def _odd(value: Any, rng: Rng) -> Any:
    """A value that is wrong in the place of another one, as often as not of its type."""
    kinds = [LETTERS, NUMBERS, OTHERS]
    if rng.random() < 0.6:
        kinds = [LETTERS] if isinstance(value, str) else [NUMBERS] if isinstance(value, int | float) else [OTHERS]
    choice = kinds[rng.integers(len(kinds))]
    odd = choice[rng.integers(len(choice))]
    if isinstance(value, str) and isinstance(odd, str) and rng.random() < 0.4:
        at = int(rng.integers(len(value) + 1))
        return value[:at] + odd + value[at:]
    return odd


def json_text(data: bytes, rng: Rng) -> bytes:
    """Change a value of a JSON text, or of one line of JSON lines."""
    lines = data.split(b"\n") if b"\n{" in data.strip() or b"\n[" in data.strip() else [data]
    number = int(rng.integers(len(lines)))
    try:
        value = json.loads(lines[number])
    except ValueError:
        return data
    lines[number] = json.dumps(changed_value(value, rng)).encode(errors="surrogatepass")
    return b"\n".join(lines)


def yaml_text(data: bytes, rng: Rng) -> bytes:
    """Change a value of a YAML text."""
    import yaml

    try:
        value = yaml.safe_load(data)
        return yaml.safe_dump(changed_value(value, rng), allow_unicode=True).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, TypeError, RecursionError):
        return data


def table(data: bytes, rng: Rng) -> bytes:
    """Change a cell of a table, or a line of a text."""
    text = data.decode(errors="surrogateescape")
    lines = text.split("\n")
    number = int(rng.integers(len(lines)))
    mark = "\t" if "\t" in lines[number] else ","
    cells = lines[number].split(mark)
    cells[rng.integers(len(cells))] = str(_odd("x", rng)) if rng.random() < 0.8 else '"' + "b" * 200_000
    lines[number] = mark.join(cells)
    return "\n".join(lines).encode(errors="surrogatepass")


# --- containers ---


def safetensors_header(data: bytes, rng: Rng) -> bytes:
    """Change the header of a safetensors file, its metadata, or numbers of a tensor; the header's length is right."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        body = bytearray(data[8 + length :])
        what, names = rng.random(), [name for name in header if name != "__metadata__"]
        name = names[rng.integers(len(names))]
        if what < 0.3 and (metadata := header.get("__metadata__")):
            key = list(metadata)[rng.integers(len(metadata))]
            try:
                metadata[key] = json.dumps(changed_value(json.loads(metadata[key]), rng))
            except ValueError:
                metadata[key] = str(_odd(metadata[key], rng))
        elif what < 0.5:
            start, stop = header[name]["data_offsets"]
            odd = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}.get(header[name]["dtype"])
            if odd is None:
                return data
            values = np.frombuffer(body[start:stop], odd).copy()
            values[rng.integers(max(1, len(values)))] = rng.choice([np.nan, np.inf, -np.inf, 6e4, 0])
            body[start:stop] = values.tobytes()
        elif what < 0.65:
            shape = header[name]["shape"]  # as many numbers, otherwise arranged
            kinds = [[math.prod(shape)], shape[::-1], [1, *shape], [*shape, 1], [math.prod(shape), 1, 1, 1, 1, 1, 1]]
            header[name]["shape"] = kinds[rng.integers(len(kinds))]
        elif what < 0.75:
            kinds = {4: ["F32", "I32", "U32"], 2: ["F16", "BF16", "I16"], 1: ["U8", "I8", "F8_E4M3", "BOOL"]}
            size = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1, "I32": 4}.get(header[name]["dtype"], 8)
            header[name]["dtype"] = str(rng.choice(kinds.get(size, ["I64", "F64"])))
        elif what < 0.85:
            header[str(_odd(name, rng))] = header.pop(name)
        elif what < 0.92:
            header[name] = {"dtype": "F32", "shape": [0], "data_offsets": header[name]["data_offsets"][:1] * 2}
        else:
            header = changed_value(header, rng)
        text = json.dumps(header).encode(errors="surrogatepass")
        return struct.pack("<Q", len(text)) + text + bytes(body)
    except (ValueError, struct.error, IndexError, KeyError, TypeError, AttributeError):
        return data


def zip_member(data: bytes, rng: Rng) -> bytes:
    """Damage a member of a zip archive, as a torch file is one; the checksums are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, RuntimeError, zlib.error):
        return data
    if not members:
        return data
    pickles = [name for name in members if name.endswith(".pkl")]
    names = pickles if pickles and rng.random() < 0.6 else list(members)
    name = names[rng.integers(len(names))]
    if rng.random() < 0.1:
        del members[name]
    else:
        members[name] = BYTES[rng.integers(len(BYTES))](members[name], rng)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    return file.getvalue()


def tar_member(data: bytes, rng: Rng) -> bytes:
    """Damage a member of a tar archive, whose size stays, as a manifest knows its place."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            places = [(each.offset_data, each.size) for each in archive if each.isfile() and each.size]
    except (tarfile.TarError, ValueError, OSError):
        return data
    if not places:
        return data
    start, size = places[rng.integers(len(places))]
    changed = BYTES[rng.integers(len(BYTES))](data[start : start + size], rng)[:size].ljust(size, b"\0")
    return data[:start] + changed + data[start + size :]


def png_chunk(data: bytes, rng: Rng) -> bytes:
    """Damage a chunk of a PNG, whose checksum is right."""
    if not data.startswith(PNG_SIGNATURE):
        return data
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return data
    number = 0 if rng.random() < 0.5 else int(rng.integers(len(chunks)))
    kind, body = chunks[number]
    chunks[number] = kind, BYTES[rng.integers(len(BYTES))](body, rng)
    written = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return PNG_SIGNATURE + b"".join(written)


def mp4_box(data: bytes, rng: Rng) -> bytes:
    """Write numbers into a box of an MP4 other than its pictures and sound."""
    names = b"tkhd mvhd mdhd stsd stts stsc stsz stco ctts elst avcC trun".split()
    places = [at for name in names if (at := data.find(name)) >= 0]
    if not places:
        return data
    start = places[rng.integers(len(places))] + 4 + int(rng.integers(40))
    return data[:start] + INTEGERS[rng.integers(len(INTEGERS))] + data[start + 4 :]


BY_SUFFIX: dict[str, Damage] = {
    ".json": json_text,
    ".jsonl": json_text,
    ".yaml": yaml_text,
    ".yml": yaml_text,
    ".csv": table,
    ".tsv": table,
    ".txt": table,
    ".safetensors": safetensors_header,
    ".pt": zip_member,
    ".ckpt": zip_member,
    ".bin": zip_member,
    ".pth": zip_member,
    ".tar": tar_member,
    ".png": png_chunk,
    ".apng": png_chunk,
    ".mp4": mp4_box,
    ".mov": mp4_box,
}
