"""Pictures of every kind keep their values, by exact arithmetic on what was written, and are the same everywhere."""

import ast
import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, features

import vidrd_core
from vidrd_core.cli.footage import read_footage
from vidrd_core.data.codec import decode_image
from vidrd_core.data.decoding import read_image
from vidrd_core.data.records import UnfitError
from vidrd_core.io import pictures
from vidrd_core.io.pictures import PictureError, picture_facts, read_picture
from vidrd_core.video import read_video

SIDE = 64
LEVELS = (np.arange(SIDE * SIDE, dtype=np.uint16) * 11).reshape(SIDE, SIDE)  # 0 to 45045: neither black nor white
EXPECTED = np.rint(LEVELS / 257).astype(int)  # 65535 is white


def grey(path):
    """A picture that is grey, as int [H, W]."""
    pixels = read_picture(path)
    assert pixels.dtype == np.uint8
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].astype(int)


def png(depth, kind, rows, chunks=()):
    """A PNG of rows of bytes; `kind` is 0 grey, 2 colour, 4 grey with alpha, 6 colour with alpha."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    samples = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    head = struct.pack(">IIBBBBB", len(rows[0]) * 8 // depth // samples, len(rows), depth, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [("IHDR", head), *chunks, ("IDAT", body), ("IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name.encode(), data) for name, data in parts)


def by_ffmpeg(path, pixels, codec, pixel_format):
    """A picture written by FFmpeg's encoder."""
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream(codec, rate=1)
        stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], pixel_format
        frame = av.VideoFrame.from_ndarray(pixels, format=pixel_format)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "big-endian.tif", "32-bit.tif", "grey.jp2"])
def test_grey_of_16_bits_is_scaled_by_its_white_and_not_its_maximum(tmp_path, name):
    levels = {"big-endian.tif": LEVELS.astype(">u2"), "32-bit.tif": LEVELS.astype(np.int32)}.get(name, LEVELS)
    Image.fromarray(levels).save(tmp_path / name)
    assert np.array_equal(grey(tmp_path / name), EXPECTED)


def test_pillows_mode_i_and_portable_greymaps_have_16_bits(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        Image.fromarray(LEVELS.astype(np.int32)).save(tmp_path / "i.png")
    (tmp_path / "grey.png").write_bytes(b"P5 64 64 65535\n" + LEVELS.astype(">u2").tobytes())
    (tmp_path / "dark.png").write_bytes(b"P5 64 64 65535\n" + (LEVELS // 256).astype(">u2").tobytes())
    assert np.array_equal(grey(tmp_path / "i.png"), EXPECTED)
    assert np.array_equal(grey(tmp_path / "grey.png"), EXPECTED)
    assert grey(tmp_path / "dark.png").max() == 1, "dark pictures stay dark"


def test_tiffs_whose_zero_is_white_or_that_are_signed(tmp_path):
    Image.fromarray(LEVELS).save(tmp_path / "reversed.tif", tiffinfo={262: 0})
    assert np.array_equal(grey(tmp_path / "reversed.tif"), 255 - EXPECTED)
    halves = LEVELS // 2
    Image.fromarray(halves).save(tmp_path / "signed.tif", tiffinfo={339: 2})
    assert np.array_equal(grey(tmp_path / "signed.tif"), np.rint(halves / 32767 * 255))


@pytest.mark.parametrize(("codec", "name"), [("png", "a.png"), ("tiff", "a.tif")])
def test_colours_of_16_bits_are_within_a_level(tmp_path, codec, name):
    colours = np.stack([LEVELS, LEVELS[::-1], LEVELS.T], -1)
    by_ffmpeg(tmp_path / name, colours, codec, "rgb48le" if codec == "tiff" else "rgb48be")
    read = read_picture(tmp_path / name).astype(int)
    assert np.abs(read - np.rint(colours / 257)).max() <= 1
    by_ffmpeg(tmp_path / name, colours // 257 * 257, codec, "rgb48le" if codec == "tiff" else "rgb48be")
    assert np.array_equal(read_picture(tmp_path / name), colours // 257)


def test_colours_in_uncompressed_planes_are_refused(tmp_path):
    planes = np.stack([LEVELS, LEVELS[::-1], LEVELS.T])
    size = LEVELS.nbytes
    entries = [(256, 3, 1, SIDE), (257, 3, 1, SIDE), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2),
               (273, 4, 3, 220), (277, 3, 1, 3), (278, 3, 1, SIDE), (279, 4, 3, 240), (284, 3, 1, 2)]  # fmt: skip
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", *each) for each in entries)
    head = head.ljust(200, b"\0") + struct.pack("<3H", 16, 16, 16).ljust(20, b"\0")
    head += struct.pack("<3I", *(300 + i * size for i in range(3))).ljust(20, b"\0") + struct.pack("<3I", *[size] * 3)
    (tmp_path / "planes.tif").write_bytes(head.ljust(300, b"\0") + planes.astype("<u2").tobytes())
    with pytest.raises(PictureError, match="has 16 bits in uncompressed planes, which Pillow misreads"):
        read_picture(tmp_path / "planes.tif")


@pytest.mark.parametrize("white", [1, 255])
def test_floats_are_shares_of_white_or_levels(tmp_path, white):
    values = (LEVELS / 65535 * white).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.array_equal(grey(tmp_path / "a.tif"), np.rint(values.astype(np.float64) / white * 255))


def test_whole_floats_are_levels_however_dark(tmp_path):
    Image.fromarray(np.full((4, 4), 3, np.float32)).save(tmp_path / "a.tif")
    assert (read_picture(tmp_path / "a.tif") == 3).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.linspace(0, 12.3, 16), "has values from 0 to 12.3, whose white is unknown: .* tone-map it"),
        (np.linspace(0, 1, 16) ** 8 * 200.5, "has values from 0 to 200.5, whose white is unknown"),
        (np.linspace(0, 70000, 16), "has values from 0 to 70000, whose white is unknown"),
        (np.linspace(-0.5, 1, 16), "has values outside of 0 to 1, or NaN"),
        (np.array([0.5, np.nan] * 8), "has values from nan to nan"),
        (np.array([0.5, np.inf] * 8), "has values from 0.5 to inf"),
        (np.full(16, 2**20), "has values from 1.04858e\\+06"),
    ],
)
def test_values_that_have_no_meaning_as_colours_are_refused(tmp_path, values, message):
    kind = np.float32 if values.dtype.kind == "f" else np.int32
    Image.fromarray(values.reshape(4, 4).astype(kind)).save(tmp_path / "a.tif")
    with pytest.raises(PictureError, match=message):
        read_picture(tmp_path / "a.tif")


def tiff(values, kind):
    """A TIFF [H, W, C] of numbers of a kind: 1 unsigned, 2 signed, 3 floats. Of two samples one is alpha."""
    height, width, samples = values.shape

    def shorts(tag, value):  # up to two are in the entry itself
        data = struct.pack(f"<{samples}H", *[value] * samples)
        return tag, 3, samples, int.from_bytes(data, "little") if samples < 3 else place.pop()

    place = [220, 200]
    bits = 8 * values.itemsize
    entries = [(256, 3, 1, width), (257, 3, 1, height), shorts(258, bits), (259, 3, 1, 1),
               (262, 3, 1, 2 if samples > 2 else 1), (273, 4, 1, 300), (277, 3, 1, samples), (278, 3, 1, height),
               (279, 4, 1, values.nbytes), *[(338, 3, 1, 2)] * (samples == 2), shorts(339, kind)]  # fmt: skip
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", *each) for each in entries)
    head = head.ljust(200, b"\0") + struct.pack("<3H", *[bits] * 3).ljust(20, b"\0") + struct.pack("<3H", *[kind] * 3)
    return io.BytesIO(head.ljust(300, b"\0") + values.tobytes())


@pytest.mark.parametrize(
    ("kind", "bits", "samples", "text"),
    [
        (3, 16, 1, "1 floats of 16 bits"),
        (3, 64, 1, "1 floats of 64 bits"),
        (3, 32, 3, "3 floats of 32 bits"),
        (1, 16, 2, "2 unsigned integers of 16 bits"),
    ],
)
def test_tiffs_that_pillow_cannot_read_are_refused_by_what_they_hold(kind, bits, samples, text):
    values = np.zeros((4, 4, samples), f"{'f' if kind == 3 else 'u'}{bits // 8}")
    with pytest.raises(PictureError, match=rf"is a TIFF of {text} a pixel, which Pillow cannot read: convert it"):
        read_picture(tiff(values, kind))


@pytest.mark.parametrize(("most", "white"), [(255, 255), (65535, 65535)])
def test_unsigned_integers_of_32_bits(most, white):
    values = np.linspace(0, most, 16).astype(np.uint32).reshape(4, 4, 1)
    assert np.array_equal(grey(tiff(values, 1)), np.rint(values[..., 0] / white * 255))
    with pytest.raises(PictureError, match=r"has values from 0 to 4\.2\d+e\+09, whose white is unknown"):
        read_picture(tiff(values * (2**32 // (most + 1)), 1))


COLOURS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), np.uint8)
ON_WHITE = np.rint(COLOURS[..., :3] * (COLOURS[..., 3:] / 255) + 255 * (1 - COLOURS[..., 3:] / 255))


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_transparency_is_laid_on_white(tmp_path, name):
    Image.fromarray(COLOURS).save(tmp_path / name, **({"lossless": True, "exact": True} if "webp" in name else {}))
    seen = read_picture(tmp_path / name).astype(int)
    assert np.abs(seen - ON_WHITE).max() <= 1


def transparent_pictures():
    """Pictures of one opaque pixel of level 200 or colour (200, 40, 10) before one that is transparent."""
    indexed = Image.new("P", (2, 1))
    indexed.putpalette([200, 40, 10, 0, 0, 0])
    indexed.putpixel((1, 0), 1)
    level, colour, clear = 200 * 257, (200 * 257, 40 * 257, 10 * 257), (1000, 2000, 3000)
    file = io.BytesIO()
    for name, options in {
        "palette": {"format": "PNG", "transparency": 1},
        "palette of alphas": {"format": "PNG", "transparency": bytes([255, 0])},
        "GIF": {"format": "GIF", "transparency": 1},
    }.items():
        file = io.BytesIO()
        indexed.save(file, **options)
        yield name, file.getvalue(), (200, 40, 10)
    yield "grey", png(8, 0, [bytes([200, 7])], [("tRNS", struct.pack(">H", 7))]), (200,) * 3
    yield "colour", png(8, 2, [bytes([200, 40, 10, 1, 2, 3])], [("tRNS", struct.pack(">3H", 1, 2, 3))]), (200, 40, 10)
    row = struct.pack(">2H", level, 1000)
    yield "grey of 16 bits", png(16, 0, [row], [("tRNS", struct.pack(">H", 1000))]), (200,) * 3
    row = struct.pack(">6H", *colour, *clear)
    yield "colour of 16 bits", png(16, 2, [row], [("tRNS", struct.pack(">3H", *clear))]), (200, 40, 10)
    row = struct.pack(">6H", 1000, 2000, 3001, 1000, 2000, 3000)
    yield "a neighbour of 16 bits", png(16, 2, [row], [("tRNS", struct.pack(">3H", 1000, 2000, 3000))]), (3, 7, 11)
    yield "grey and alpha", png(8, 4, [bytes([200, 255, 0, 0])]), (200,) * 3
    yield "grey and alpha of 16 bits", png(16, 4, [struct.pack(">4H", level, 65535, 0, 0)]), (200,) * 3
    yield "colour and alpha of 16 bits", png(16, 6, [struct.pack(">8H", *colour, 65535, 0, 0, 0, 0)]), (200, 40, 10)


@pytest.mark.parametrize(
    ("name", "data", "opaque"), list(transparent_pictures()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_all_kinds_of_transparency(name, data, opaque):
    assert read_picture(io.BytesIO(data)).tolist() == [[list(opaque), [255, 255, 255]]]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("suffix", [".png", ".apng"])
def test_a_level_of_few_bits_may_be_clear(tmp_path, depth, suffix):
    most = 2**depth - 1
    levels = np.arange(16) * most // 15
    row = int("".join(f"{level:0{depth}b}" for level in levels), 2).to_bytes(2 * depth, "big")
    (tmp_path / f"a{suffix}").write_bytes(png(depth, 0, [row], [("tRNS", struct.pack(">H", levels[5]))]))
    expected = np.where(levels == levels[5], 255, levels * 255 // most)
    if suffix == ".png":
        assert np.array_equal(grey(tmp_path / "a.png")[0], expected)
    else:
        assert np.array_equal(read_video(tmp_path / "a.apng")[0][0, 0, :, 0], expected)


def test_all_commands_see_the_same_picture(tmp_path):
    frame = tmp_path / "frames" / "frame_000000.png"
    frame.parent.mkdir()
    Image.fromarray(COLOURS).save(frame)
    seen = read_picture(frame)
    assert np.abs(seen - ON_WHITE).max() <= 1
    assert np.array_equal(read_image(str(frame)), seen), "vidrd data"
    assert np.array_equal(read_footage(frame, 8, None, None)[0], seen), "vidrd state"
    assert np.array_equal(read_video(frame.parent)[0][0], seen), "vidrd evaluate"
    assert np.array_equal(decode_image(frame.read_bytes(), (1, *seen.shape[:2]))[0], seen), "shards"


def test_only_one_module_opens_pictures_and_one_animations():
    root = Path(vidrd_core.__file__).parent
    opening = {
        path.relative_to(root).as_posix()
        for path in [*root.rglob("*.py"), *(root.parent / "nodes").rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "Image.open"
    }
    assert opening == {"io/pictures.py", "video/animation_reader.py"}


def test_other_modes(tmp_path):
    black_and_white = np.arange(64).reshape(8, 8) % 3 == 0
    Image.fromarray(black_and_white).save(tmp_path / "1.png")
    assert np.array_equal(grey(tmp_path / "1.png"), black_and_white * 255)
    Image.fromarray(EXPECTED.astype(np.uint8)).save(tmp_path / "grey.jpg", quality=100)
    assert np.abs(grey(tmp_path / "grey.jpg") - EXPECTED).max() <= 2
    inks = np.empty((8, 8, 4), np.uint8)
    inks[:] = (10, 200, 30, 40)
    for name, options in (("a.jpg", {"quality": 100}), ("a.tif", {})):  # Adobe's JPEGs hold inks reversed
        Image.fromarray(inks, "CMYK").save(tmp_path / name, **options)
        expected = [(255 - ink) * (255 - 40) / 255 for ink in (10, 200, 30)]
        assert np.abs(read_picture(tmp_path / name)[0, 0] - np.array(expected)).max() <= 2


def test_a_jpeg_of_ycck(tmp_path):
    inks = np.empty((16, 16, 4), np.uint8)
    inks[:] = (10, 200, 30, 40)
    file = io.BytesIO()
    # Stored are luma and chroma of C, M and Y, and the reverse of K. Pillow stores the reverse of what it is given.
    luma = np.asarray(Image.fromarray(inks[..., :3]).convert("YCbCr"))
    Image.fromarray(255 - np.concatenate([luma, 255 - inks[..., 3:]], -1), "CMYK").save(file, "JPEG", quality=100)
    data = file.getvalue()
    marker = data.index(b"Adobe")
    data = data[: marker + 11] + b"\x02" + data[marker + 12 :]
    expected = [(255 - ink) * (255 - 40) / 255 for ink in (10, 200, 30)]
    assert np.abs(read_picture(io.BytesIO(data))[8, 8] - np.array(expected)).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.avif"])
def test_pictures_are_upright(tmp_path, name, orientation):
    if "avif" in name and not features.check("avif"):
        pytest.skip("this Pillow cannot read AVIF")
    corner = np.zeros((16, 32, 3), np.uint8)
    corner[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(corner).save(tmp_path / name, exif=exif, **({"quality": 100} if "avif" in name else {}))
    turned = {  # by EXIF 2.32: where the stored rows and columns begin
        1: corner, 2: corner[:, ::-1], 3: corner[::-1, ::-1], 4: corner[::-1], 5: corner.transpose(1, 0, 2),
        6: np.rot90(corner, -1), 7: corner[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(corner),
    }[orientation]  # fmt: skip
    seen = read_picture(tmp_path / name)
    assert seen.shape == turned.shape
    assert np.abs(seen.astype(int) - turned).max() <= 8
    facts = picture_facts(tmp_path / name)
    assert (facts.height, facts.width) == turned.shape[:2]


def test_an_orientation_turns_16_bits_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(LEVELS[:32]).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(grey(tmp_path / "a.png"), np.rot90(EXPECTED[:32], -1))


PRIMARIES = {  # XYZ under D50 of red, green and blue
    "Display P3": [[0.51512, 0.2412, -0.00105], [0.29198, 0.69225, 0.04189], [0.1571, 0.06657, 0.78407]],
    "sRGB": [[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.7141]],
}
GAMMA = 2.2


def icc(primaries=None):
    """A profile of ICC version 2 with a gamma of 2.2: of colours with these primaries, or of grey."""

    def fixed(values):
        return struct.pack(f">{len(values)}i", *(round(v * 65536) for v in values))

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(GAMMA * 256)) + bytes(2)
    white = (0.9642, 1.0, 0.8249)
    tags = {
        "desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(79),
        "wtpt": b"XYZ " + bytes(4) + fixed(white),
    }
    tags["cprt"] = b"text" + bytes(4) + b"none"
    if primaries:
        for name, values in zip("rgb", primaries, strict=True):
            tags |= {f"{name}XYZ": b"XYZ " + bytes(4) + fixed(values), f"{name}TRC": curve}
    else:
        tags["kTRC"] = curve
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data = data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", name.encode(), start + len(body), len(data))
        body += data
    space = b"RGB " if primaries else b"GRAY"
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02400000, b"mntr", space, b"XYZ ") + bytes(12)
    head += b"acsp" + bytes(28) + fixed(white) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def srgb_of(light):
    """sRGB's levels of linear light (IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_wide_gamut_becomes_srgb(kind):
    colours = COLOURS[..., :3] // 2 + 64  # inside of sRGB, but for a few
    file = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(colours).save(file, kind, icc_profile=icc(PRIMARIES["Display P3"]), **options)
    light = (colours / 255) ** GAMMA @ np.array(PRIMARIES["Display P3"]) @ np.linalg.inv(PRIMARIES["sRGB"])
    expected = srgb_of(light)
    seen = read_picture(file).astype(int)
    inside = ((light > 0.001) & (light < 0.999)).all(-1)
    assert inside.mean() > 0.9
    assert np.abs(seen - expected)[inside].max() <= 1
    assert np.abs(seen - colours).max() > 10, "it differs from what is stored"


def test_profiles_of_grey_of_16_bits_and_of_transparent_pictures():
    expected = srgb_of((EXPECTED / 255) ** GAMMA)
    file = io.BytesIO()
    Image.fromarray(LEVELS).save(file, "PNG", icc_profile=icc())
    assert np.abs(grey(file) - expected).max() <= 1.5
    file = io.BytesIO()
    half = np.stack([EXPECTED.astype(np.uint8), np.full((SIDE, SIDE), 128, np.uint8)], -1)
    Image.fromarray(half, "LA").save(file, "PNG", icc_profile=icc())
    assert np.abs(grey(file) - (expected * 128 + 255 * 127) / 255).max() <= 2, "alpha is no colour"


@pytest.mark.parametrize("profile", ["sRGB", "damaged", "grey"])
def test_profiles_that_change_nothing(profile):
    from PIL import ImageCms

    made = {
        "sRGB": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "damaged": icc(PRIMARIES["sRGB"])[:200],
        "grey": icc(),
    }[profile]
    file = io.BytesIO()
    Image.fromarray(COLOURS[..., :3]).save(file, "PNG", icc_profile=made)
    assert np.array_equal(read_picture(file), COLOURS[..., :3])


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_picture_of_an_animation_is_the_still(kind):
    first, others = (
        Image.new("RGB", (16, 16), (200, 40, 10)),
        [Image.new("RGB", (16, 16), (9, i, 200)) for i in (1, 2)],
    )
    file = io.BytesIO()
    first.save(
        file,
        kind,
        save_all=True,
        append_images=others,
        duration=100,
        **({"lossless": True} if kind == "WEBP" else {}),
    )
    assert (read_picture(file) == (200, 40, 10)).all()


def test_oversized_pictures_are_refused_and_large_ones_read_without_a_warning(tmp_path, recwarn):
    large = 9464  # squared, a little over what Pillow warns of
    (tmp_path / "large.png").write_bytes(png(1, 0, [bytes(large // 8)] * large))
    assert read_picture(tmp_path / "large.png").shape == (large, large, 3)
    assert not recwarn
    data = bytearray(png(1, 0, [bytes(1)]))
    data[16:24] = struct.pack(">II", 20000, 20000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "huge.png").write_bytes(data)
    with pytest.raises(PictureError, match="has too many pixels: expected at most 179 million, scale it down"):
        read_picture(tmp_path / "huge.png")
    with pytest.raises(UnfitError, match="has too many pixels"):
        read_image(str(tmp_path / "huge.png"))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.tif", "a.bmp"])
def test_truncated_pictures_are_refused_by_their_name(tmp_path, name):
    Image.fromarray(COLOURS[..., :3]).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for share in (0.01, 0.3, 0.9):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(UnfitError, match="is damaged or no image"):
            read_image(str(tmp_path / name))
        if name != "a.gif":  # for `vidrd state` that is a video
            with pytest.raises(ValueError, match=rf"{name} is damaged or no image"):
                read_footage(tmp_path / name, 8, None, None)


def test_missing_files_and_heic_without_its_package(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "none.png")
    with pytest.raises(UnfitError, match="cannot be read: No such file"):
        read_image(str(tmp_path / "none.png"))
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(PictureError, match="is HEIC: pip install pillow-heif"):
        read_picture(tmp_path / "a.heic")


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.jpg"])
def test_more_pixels_than_memory_has_room_for_are_refused_by_the_header(tmp_path, monkeypatch, name):
    Image.new("RGB", (40, 30)).save(tmp_path / name)
    monkeypatch.setattr("vidrd_core.io.pictures.MOST_PIXELS", {"": 1200, "WEBP": 1200})
    assert read_picture(tmp_path / name).shape == (30, 40, 3)
    monkeypatch.setattr("vidrd_core.io.pictures.MOST_PIXELS", {"": 1199, "WEBP": 1199})
    with pytest.raises(PictureError, match="has 40 x 30 pixels: expected at most 0 million, scale it down"):
        read_picture(tmp_path / name)


def test_large_pictures_are_read_in_little_memory(tmp_path):
    code = (
        "import resource, sys; from vidrd_core.io.pictures import read_picture;"
        "read_picture(sys.argv[1]); small = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "shape = read_picture(sys.argv[2]).shape; large = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "print((large - small) * 1024 / (shape[0] * shape[1]))"
    )
    pytest.importorskip("resource")
    if sys.platform != "linux":
        pytest.skip("other systems count in other units")
    for mode in ("RGB", "RGBA", "I;16"):
        for name, side in (("small.png", 64), ("large.png", 3000)):
            Image.new(mode, (side, side)).save(tmp_path / name)
        command = [sys.executable, "-c", code, str(tmp_path / "small.png"), str(tmp_path / "large.png")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert float(done.stdout) < 14, mode  # bytes for each pixel


def test_an_animated_png_is_limited_as_what_is_laid_on_another_frame(tmp_path, monkeypatch):
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "still.png")
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    monkeypatch.setitem(pictures.MOST_PIXELS, "GIF", 100)
    assert read_picture(tmp_path / "still.png").shape == (10, 20, 3)
    with pytest.raises(PictureError, match="has 20 x 10 pixels"):
        read_picture(tmp_path / "moving.png")
