"""Picture files as 8-bit sRGB, the same for every command: upright, on white, with the values that they hold."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from vidrd_core.io.atomic import atomic_file
from vidrd_core.io.decoded import GROUND, HDR, VideoError
from vidrd_core.io.hdr import Source, hdr_of, tone_mapped

PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jfif", ".avif", ".heic", ".heif",
)  # fmt: skip
BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT = 258, 259, 262, 284, 339  # tags of TIFF
SAMPLES_PER_PIXEL = 277
WHITE_IS_ZERO, UNSIGNED, SIGNED, FLOAT = 0, 1, 2, 3  # values of PHOTOMETRIC and SAMPLE_FORMAT
NUMBERS = {UNSIGNED: "unsigned integers", SIGNED: "signed integers", FLOAT: "floats"}
FEW_BITS = {"L;2": 85, "L;4": 17}  # what Pillow multiplies levels of PNG with, by its raw mode, and not the clear one
LEAST_OF_LEVELS = 64  # of the largest value of floats that are not whole: below it they are light, not levels
# By format: more would take over 2 GB while they are read.
MOST_PIXELS = {"": 2**27, "WEBP": 2**26, "AVIF": 2**26, "HEIF": 2**26, "GIF": 2**26}
PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # Pillow's mode for the colour space of a profile


class PictureError(ValueError):
    """A picture that cannot be read; the message is the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class PictureFacts:
    """What a picture is, by its header.

    Args:
        width: Width in pixels, upright.
        height: Height in pixels, upright.
        texts: Its texts and other facts, as `Image.info` of Pillow has them.
    """

    width: int
    height: int
    texts: dict[str, Any]


def read_picture(source: Source) -> NDArray[np.uint8]:
    """Read a picture; of an animation the first one.

    It is turned as its EXIF orientation says, laid on white where it is transparent, and converted to sRGB if it has
    an ICC profile of another colour space. Values of more than 8 bits are scaled by the white of their kind, never by
    the picture's own maximum: 65535 of 16 bits, 1 of floats. Floats above 1 are levels of 0 to 255, if they are whole
    numbers or most of them exceed 1 and the largest 64; others, as of HDR pictures, are refused, because mapping
    their tones is a choice. Integers of 32 bits are levels of 8 bits if none exceeds 255, else of 16 bits. Of colours
    of 16 bits Pillow reads the high bytes, which is exact to one level. TIFFs that it cannot read, as of floats in
    colour, are refused. PNG and AVIF that say they are PQ or HLG are tone-mapped as films are; HEIC is refused then.

    Args:
        source: A file, or its bytes as a BytesIO.

    Returns:
        uint8 [H, W, 3], sRGB.

    Raises:
        OSError: There is no such file, or it cannot be read.
        PictureError: It is damaged, too large or no picture, or has values that have no meaning as colours.
    """
    with _opened(source) as file:
        if kind := _hdr_of(file, source):
            return _tone_mapped(file, source, kind)
        has_high_bytes = any("16" in str(tile[3]) for tile in file.tile)  # alone, of 16 bits
        tags = _tags(file)
        if (tags[PLANAR], tags[COMPRESSION], tags[BITS_PER_SAMPLE]) == (2, 1, 16) and file.mode.startswith("RGB"):
            raise PictureError(
                "has 16 bits in uncompressed planes, which Pillow misreads: save its colours interleaved"
            )
        exact_key = file.info.get("transparency")
        scale_transparency(file)
        ImageOps.exif_transpose(file, in_place=True)  # else a copy, also of one that is upright
        image = file
        profile = file.info.get("icc_profile")
        key = image.info.get("transparency")
        if image.mode.startswith(("I", "F")):
            levels = np.asarray(image)
            if levels.dtype == np.int32 and (tags[BITS_PER_SAMPLE], tags[SAMPLE_FORMAT]) == (32, UNSIGNED):
                levels = levels.view(np.uint32)
            clear = levels == key if isinstance(key, int) else None
            file.close()  # large ones would not fit into memory beside what follows
            grey = _eight_bits(levels, _white(levels, tags), tags[PHOTOMETRIC] == WHITE_IS_ZERO)
            del levels
            return _on_ground(_in_srgb(Image.fromarray(grey), profile), clear)
        if isinstance(key, tuple) and has_high_bytes:
            high, low = np.divmod(exact_key, 256)
            clear = (np.asarray(image) == high).all(-1) & (_low_bytes(source) == low).all(-1)
            del image.info["transparency"]
            return _on_ground(_in_srgb(image, profile), clear)
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or key is not None:
            whole = _in_mode(image, "RGBA")
            alpha = whole.getchannel("A")
            image = _in_srgb(whole.convert("RGB"), profile)
            del whole
            file.close()
            ground = Image.new("RGB", image.size, (GROUND,) * 3)
            ground.paste(image, mask=alpha)
            del image, alpha
            return np.asarray(ground)
        return np.asarray(_in_srgb(image, profile))


def _hdr_of(file: Any, source: Source) -> str:
    """What kind of HDR an open picture is; "" for none. Raises PictureError for HEIC."""
    kind = HDR.get((file.info.get("nclx_profile") or {}).get("transfer_characteristics", 0), "")
    if kind:
        raise PictureError(f"is HDR ({kind}): tone-map it first, and save it as a PNG or JPEG")
    return hdr_of(source) if file.format in ("PNG", "AVIF") else ""


def _tone_mapped(file: Any, source: Source, kind: str) -> NDArray[np.uint8]:
    """The pixels of an open HDR picture as `read_picture` gives them. Raises PictureError."""
    try:
        image = Image.fromarray(tone_mapped(source))
    except VideoError as error:
        raise PictureError(str(error).replace("HDR video", "HDR")) from error
    except av.error.FFmpegError as error:
        raise PictureError(f"is HDR ({kind}) and damaged, or of a kind that FFmpeg cannot read: {error}") from error
    if image.size != file.size:
        raise PictureError(f"is HDR ({kind}) of several parts: tone-map it first, and save it as a PNG or JPEG")
    if file.format == "AVIF" and file.mode == "RGBA":  # of which FFmpeg has the colours alone
        image = Image.composite(image, Image.new("RGB", image.size, (GROUND,) * 3), file.getchannel("A"))
    image.info["exif"] = file.getexif().tobytes()
    return np.asarray(ImageOps.exif_transpose(image))


def scale_transparency(image: Any) -> None:
    """Scale the colour that is clear in a PNG of 2, 4 or 16 bits as Pillow scales its pixels to 8 bits.

    Args:
        image: The image of Pillow, open, of which no pixel is read yet.
    """
    key, kinds = image.info.get("transparency"), {str(tile[3]) for tile in image.tile}
    if isinstance(key, int):
        image.info["transparency"] = key * next((FEW_BITS[kind] for kind in kinds if kind in FEW_BITS), 1)
    elif isinstance(key, tuple) and any("16" in kind for kind in kinds):
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _low_bytes(source: Source) -> NDArray[np.uint8]:
    """The low bytes of a PNG of 16 bits a colour, uint8 [H, W, 3], of which Pillow reads the high ones."""
    with _opened(source) as file:
        file.tile = [(*tile[:3], "RGB;16L") for tile in file.tile]  # the low bytes are high ones in that order
        return np.asarray(ImageOps.exif_transpose(file))


def save_picture(image: Image.Image, path: str | os.PathLike[str], **options: Any) -> None:
    """Write a picture, so that whatever has its name is complete.

    Args:
        image: The picture.
        path: The file; its suffix is that of a format that Pillow writes.
        **options: Those of Pillow for the format.

    Raises:
        OSError: It cannot be written.
    """
    with atomic_file(os.fspath(path)) as partial:
        image.save(partial, Image.registered_extensions()[os.path.splitext(path)[1].lower()], **options)


def picture_facts(source: Source) -> PictureFacts:
    """Size and texts of a picture, without reading its pixels.

    Args:
        source: A file, or its bytes as a BytesIO.

    Returns:
        The facts.

    Raises:
        OSError: There is no such file, or it cannot be read.
        PictureError: It is damaged, too large or no picture.
    """
    with _opened(source) as image:
        width, height = image.size
        if (
            image.format != "TIFF" and image.getexif().get(0x0112, 1) >= 5
        ):  # turned by a quarter; TIFF's size heeds it
            width, height = height, width
        return PictureFacts(width, height, dict(image.info))


@contextmanager
def _opened(source: Source) -> Iterator[Any]:
    """A context with an open picture, in which Pillow's errors become PictureErrors and it does not warn."""
    if isinstance(source, str | os.PathLike) and os.fspath(source).lower().endswith((".heic", ".heif")):
        _register_heif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that are still read, and of odd metadata
            with Image.open(source) as image:
                check_size(image)
                yield image
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise PictureError(f"has too many pixels: expected at most {most:.0f} million, scale it down") from error
    except MemoryError as error:
        raise PictureError("is too large for the memory of this machine: scale it down") from error
    except UnidentifiedImageError as error:
        if found := _tiff_numbers(source):
            raise PictureError(
                f"is a TIFF of {found}, which Pillow cannot read: convert it to a PNG of 8 or 16 bits"
            ) from error
        raise PictureError("is damaged or no image that Pillow can read: save it anew, as a PNG or JPEG") from error
    except PictureError:
        raise
    except Exception as error:  # of a damaged file Pillow raises nearly anything
        if isinstance(error, OSError) and error.errno is not None:
            raise
        what = str(error) or type(error).__name__
        raise PictureError(f"is damaged or no image that can be read: {what}") from error


def check_size(image: Any) -> None:
    """Raise PictureError for an open image of Pillow of which no pixel is read yet, if it has too many for memory."""
    width, height = image.size
    is_animated = image.format == "PNG" and getattr(image, "is_animated", False)  # one frame is laid on another
    kind = "GIF" if is_animated else image.format or ""
    if width * height > (most := MOST_PIXELS.get(kind, MOST_PIXELS[""])):
        raise PictureError(f"has {width} x {height} pixels: expected at most {most / 1e6:.0f} million, scale it down")


def _tiff_numbers(source: Source) -> str:
    """What numbers a TIFF holds, as "3 floats of 32 bits a pixel"; "" for bytes and another file."""
    try:
        with warnings.catch_warnings(), ExitStack() as stack:
            warnings.simplefilter("error")  # of tags that are cut off
            file = source if isinstance(source, BytesIO) else stack.enter_context(open(source, "rb"))
            file.seek(0)
            tags = ImageFileDirectory_v2(file.read(8))
            file.seek(tags.next)
            tags.load(file)
            bits, kind = tags[BITS_PER_SAMPLE][0], tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0]
            numbers = f"{tags.get(SAMPLES_PER_PIXEL, 1)} {NUMBERS[kind]} of {bits} bits a pixel"
            return "" if (kind, bits) == (UNSIGNED, 8) else numbers
    except Exception:  # of a damaged file Pillow raises nearly anything
        return ""


@lru_cache
def _register_heif() -> None:
    """Have Pillow read HEIC. Raises PictureError without the package that does."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise PictureError("is HEIC: pip install pillow-heif to read it, or save it as a PNG or JPEG") from error
    register_heif_opener()


def _tags(file: Any) -> dict[int, int]:
    """How a TIFF's values are stored; of another format, as in an unsigned one of 16 bits."""
    found = {BITS_PER_SAMPLE: 16, COMPRESSION: 1, PHOTOMETRIC: 1, PLANAR: 1, SAMPLE_FORMAT: 1}
    for tag in found:
        value = getattr(file, "tag_v2", {}).get(tag, found[tag])
        found[tag] = int(value[0] if isinstance(value, tuple) else value)
    return found


def _white(levels: NDArray[Any], tags: dict[int, int]) -> float:
    """The value of white in a grey picture of more than 8 bits. Raises PictureError where it cannot be known."""
    low, high = float(levels.min()), float(levels.max())
    if levels.dtype.kind == "f":
        if high < 1 + 0.5 / 255:
            return 1.0
        whole = bool((levels == np.rint(levels)).all())
        if high <= 255 and (whole or (high >= LEAST_OF_LEVELS and np.median(levels) > 1)):
            return 255.0
    elif tags[BITS_PER_SAMPLE] <= 16:
        return float(2 ** (tags[BITS_PER_SAMPLE] - (tags[SAMPLE_FORMAT] == SIGNED)) - 1)
    elif high <= 65535:
        return 255.0 if high <= 255 else 65535.0
    raise PictureError(
        f"has values from {low:g} to {high:g}, whose white is unknown: expected floats of 0 to 1 or levels of 0 to "
        "255; tone-map it and save it with 8 or 16 bits"
    )


def _eight_bits(levels: NDArray[Any], white: float, is_reversed: bool) -> NDArray[np.uint8]:
    """Levels of 8 bits from those of another white. Raises PictureError for values outside of 0 to white."""
    found = np.empty(levels.shape, np.uint8)
    rows = max(1, 2**20 // levels.shape[1])  # at once, as these numbers take eight times as much
    for top in range(0, len(levels), rows):
        scaled = np.rint(levels[top : top + rows].astype(np.float64) * (255 / white))
        if not (scaled.min() >= 0 and scaled.max() <= 255):  # NaN, too
            raise PictureError(f"has values outside of 0 to {white:g}, or NaN: save it anew, with 8 or 16 bits")
        found[top : top + rows] = 255 - scaled if is_reversed else scaled
    return found


def _on_ground(image: Any, clear: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """A picture's pixels, on the ground where it is clear."""
    pixels = np.array(image)
    if clear is not None:
        pixels[clear] = GROUND
    return pixels


def _in_srgb(image: Any, profile: bytes | None) -> Any:
    """An image without alpha in RGB, converted from its profile's colour space unless that does not fit it."""
    found = _to_srgb(profile) if profile else None
    if found is not None:
        mode, transform = found
        if (image.mode in ("1", "L") and mode == "RGB") or image.mode == "P":
            image = image.convert("RGB")
        if image.mode == "RGB" and mode == "L" and _is_grey(image):
            image = image.convert("L")
        if image.mode == mode:
            image = ImageCms.applyTransform(image, transform)
    return _in_mode(image, "RGB")


def _in_mode(image: Any, mode: str) -> Any:
    """An image in a mode, without a copy where it has it."""
    return image if image.mode == mode else image.convert(mode)


def _is_grey(image: Any) -> bool:
    red, green, blue = np.moveaxis(np.asarray(image), -1, 0)
    return bool((red == green).all() and (green == blue).all())


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes) -> tuple[str, Any] | None:
    """The mode that a profile is for, and its transform to sRGB; None if it is damaged, or is sRGB's."""
    try:
        opened = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = PROFILE_MODES[opened.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, KeyError):
        return None
    if mode == "RGB":
        steps = np.linspace(0, 255, 9).round().astype(np.uint8)
        probe = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(9, 81, 3)
        seen = np.asarray(ImageCms.applyTransform(Image.fromarray(probe), transform))
        if np.abs(seen.astype(int) - probe).max() <= 2:  # sRGB but for rounding: pixels stay as they are
            return None
    return mode, transform
