"""The settings of adapters: PEFT's adapter_config.json, and diffusers' metadata with the same entries."""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import regex
from torch import Tensor

from vidrd_core.io.configs import parse_json
from vidrd_core.io.safetensors import FormatError, file_format, open_safetensors
from vidrd_core.models.formats.weight_files import read_json

WRAPPER = "base_model.model."  # what PEFT puts before a layer's own name
KINDS = ("LORA", "LOHA", "LOKR")
# Initialisations of PEFT that change the model's own weights, so that the adapter alone is not the whole change.
CHANGED_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
# Entries of PEFT's LoraConfig that change what a layer computes, beyond the matrices.
UNSUPPORTED = ("alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "monteclora_config",
               "target_parameters", "trainable_token_indices", "use_bdlora", "use_qalora")  # fmt: skip
ENTRIES = ("peft_type", "r", "lora_alpha", "alpha", "rank_pattern", "alpha_pattern")  # of which a config has some
CONFIG = "adapter_config.json"
ADAPTED = re.compile(r"\.(lora|hada|lokr)_\w+(\.|$)")  # what follows the name of a layer with an adapter
LONGEST = 2000  # characters of a pattern
MOST = 10_000  # how often all that a pattern counts may be repeated, within each other
COUNTS = re.compile(r"\{(\d*),?(\d*)\}")
NO_COUNT = re.compile(r"(?<!\\)\{(?!\d*,?\d*\})")  # text in `re`, which PEFT uses, and inexact matching in `regex`
PLAIN = re.compile(r"[\w.]+")
SECONDS = 2.0  # for all that a file's patterns are matched with
DEFAULT = 8  # PEFT's rank and alpha where a config has none


class PatternError(ValueError):
    """A pattern of a config that is not matched; the message says why."""


class Matcher:
    """Matches the patterns of a file, in bounded time and memory.

    Args:
        whole: A regular expression with a pattern for %s; by default one for a name, or what follows one of its dots.
    """

    def __init__(self, whole: str = r"(.*\.)?(%s)$") -> None:
        self.left, self._whole = SECONDS, whole
        self._known: dict[str, Any] = {}

    def __call__(self, pattern: str, name: str) -> bool:
        """Whether a pattern describes a name.

        Args:
            pattern: A regular expression.
            name: A layer's name.

        Returns:
            Whether it does.

        Raises:
            PatternError: It is no regular expression, is too long, or takes too long.
        """
        begun = time.monotonic()
        try:
            if pattern not in self._known:
                self._known[pattern] = _compiled(pattern, self._whole)
            plain, whole = self._known[pattern]
            if plain and not name.endswith(plain):
                return False
            return whole.match(name, timeout=max(self.left, 1e-3)) is not None
        except TimeoutError as error:
            raise PatternError(f"takes too long to match ({pattern[:60]!r})") from error
        finally:
            self.left -= time.monotonic() - begun


def _compiled(pattern: str, whole: str) -> tuple[str, Any]:
    """The end of the names that a pattern describes, where that is plain, and the whole. Raises PatternError."""
    if len(pattern) > LONGEST:
        raise PatternError(f"is longer than {LONGEST} characters")
    if math.prod(max(int(count or 1) for count in found) or 1 for found in COUNTS.findall(pattern)) > MOST:
        raise PatternError(f"counts to more than {MOST}")
    if NO_COUNT.search(pattern):
        raise PatternError("has a brace that begins no count")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Python may read otherwise one day
            re.compile(pattern)  # which knows no recursion
        found = regex.compile(whole % pattern)
    except (re.error, regex.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise PatternError(f"is no regular expression ({error})") from error
    return pattern.rpartition(".")[2] if PLAIN.fullmatch(pattern) else "", found


@dataclass(frozen=True)
class Settings:
    """The settings of an adapter, {} for a file without any.

    Args:
        path: The adapter's file, for messages.
        entries: PEFT's entries; diffusers has them as "unet.lora_alpha" if its file has several parts.
        rs_lora: Whether LyCORIS trained it with its rs_lora, by kohya's metadata.
    """

    path: Path
    entries: Mapping[str, Any]
    rs_lora: bool = False
    matches: Matcher = field(default_factory=Matcher, compare=False, repr=False)

    @classmethod
    def of(cls, file: Path, keys: Collection[str]) -> Settings:
        """Read the config beside a file, or the metadata inside.

        Args:
            file: The adapter's file.
            keys: The names of its tensors; a config beside a file that PEFT did not name is read if it fits them.

        Returns:
            The settings.

        Raises:
            FormatError: The metadata are no JSON mapping.
        """
        beside, is_named = file.with_name(CONFIG), file.name.startswith("adapter_model")
        config = read_json(beside) if is_named or any(key.startswith(WRAPPER) for key in keys) else {}
        if config and not is_named and not _fits(config, keys):
            warnings.warn(
                f"{beside} is not used for {file.name}: its target_modules do not name that file's layers",
                stacklevel=2,
            )
            config = {}
        trained: Mapping[str, Any] = {}
        if file_format(file) == "safetensors":
            with open_safetensors(file) as opened:
                metadata = opened.metadata() or {}
            try:
                config |= _mapping(metadata.get("lora_adapter_metadata"))
                trained = _mapping(metadata.get("ss_network_args"))
            except ValueError as error:
                raise FormatError(f"{file} has metadata that are no JSON mapping: {error}") from error
        return cls(file, config, str(trained.get("rs_lora", False)).lower() == "true")

    def check(self, keys: Iterable[str]) -> None:
        """Refuse what the matrices alone do not tell. Raises FormatError that names the setting.

        Args:
            keys: The names of the adapter's tensors.
        """
        for layer in {key.split(".")[0]: key for key in keys}.values():
            kind = self._entry(layer, "peft_type") or KINDS[0]
            if kind not in KINDS:
                raise FormatError(f"{self.path} is an adapter of PEFT's kind {kind}, which is not supported: "
                                  f"expected {', '.join(KINDS)}")  # fmt: skip
            start = self._entry(layer, "init_lora_weights")
            if isinstance(start, str) and start.lower().startswith(CHANGED_BASE):
                raise FormatError(
                    f"{self.path} has init_lora_weights {start}, which changes the model's own weights too: expected "
                    f"an adapter that PEFT saved with path_initial_model_for_weight_conversion"
                )
            for name in UNSUPPORTED:
                if self._entry(layer, name):
                    raise FormatError(f"{self.path} was trained with PEFT's {name}, which is not supported: expected "
                                      f"an adapter without it")  # fmt: skip

    def scale(self, layer: str, rank: int | None, alpha: Tensor | None) -> float:
        """The factor of a layer's matrices, as PEFT and LyCORIS compute it: a finite number.

        Args:
            layer: The file's name of the layer.
            rank: The rank of its matrices; None if they are whole. LyCORIS has the factor 1 for them, or with rs_lora
                the square root of a dimension, which is the cube root of its alpha.
            alpha: The file's alpha of the layer, which goes before the settings.

        Returns:
            alpha / rank, alpha / sqrt(rank) for rank-stabilised LoRA; 1 without an alpha.

        Raises:
            FormatError: An entry is no number, or a pattern no regular expression.
        """
        found = self._scale(layer, rank, alpha)
        if not math.isfinite(found):
            raise FormatError(
                f"{self.path}: alpha or rank of {layer} gives the factor {found}, expected a finite one"
            )
        return found

    def _scale(self, layer: str, rank: int | None, alpha: Tensor | None) -> float:
        try:
            if alpha is not None:
                whole = abs(float(alpha)) ** (1 / 3) if self.rs_lora else 1.0
                return float(alpha) / rank if rank else whole
            if all(self._entry(layer, name) is None for name in ENTRIES):
                return 1.0
            name = "lora_alpha" if self._entry(layer, "lora_alpha") is not None else "alpha"
            found = float(self._of_layer(layer, "alpha_pattern", name))
            rank = rank or int(self._of_layer(layer, "rank_pattern", "r"))
            if rank < 1:
                raise ValueError(f"the rank is {rank}, expected 1 or more")
            return found / (math.sqrt(rank) if self._entry(layer, "use_rslora") else rank)
        except PatternError as error:
            raise FormatError(f"{self.path}: a pattern of {layer} {error}") from error
        except (TypeError, OverflowError, ValueError, RuntimeError, ZeroDivisionError, AttributeError) as error:
            raise FormatError(f"{self.path}: alpha or rank of {layer} is no number ({error})") from error

    def _of_layer(self, layer: str, patterns: str, default: str) -> Any:
        """The entry of the first pattern that matches a layer's own name, or the entry for all.

        A pattern is a regular expression for the whole name or for what follows one of its dots.
        """
        name = self._own_name(layer)
        known = self._entry(layer, patterns) or {}
        if not isinstance(known, Mapping):
            raise TypeError(f"{patterns} is {str(known)[:60]!r}, expected names with numbers")
        first = next((pattern for pattern in known if self.matches(pattern, name)), name)
        found = known.get(first, self._entry(layer, default))
        return DEFAULT if found is None else found

    def _entry(self, layer: str, name: str) -> Any:
        return self.entries.get(f"{self._part(layer)}{name}")

    def _part(self, layer: str) -> str:
        """The prefix of the entries for a layer: "unet." for a layer of that name, "" if there is one set for all."""
        part = f"{layer.split('.')[0]}."
        return part if any(entry.startswith(part) for entry in self.entries) else ""

    def _own_name(self, layer: str) -> str:
        return layer.removeprefix(self._part(layer) or WRAPPER)


def _mapping(text: str | None) -> dict[str, Any]:
    """A mapping in JSON; {} for none, null and "". Raises ValueError."""
    found = parse_json(text or "{}") or {}
    if not isinstance(found, dict):
        raise ValueError(f"{str(found)[:60]!r}")
    return found


def _fits(config: Mapping[str, Any], keys: Iterable[str]) -> bool:
    """Whether a config of PEFT is that of tensors with these names: its target_modules name all of their layers."""
    found = {
        key[: match.start()].removeprefix(WRAPPER)
        for key in keys
        if key.startswith(WRAPPER) and (match := ADAPTED.search(key))
    }
    targets = config.get("target_modules")
    if not found or not isinstance(targets, (str, list)):
        return False
    if targets == "all-linear":
        return True
    if isinstance(targets, str):
        matches = Matcher("(?:%s)$")
        try:
            return all(matches(targets, name) for name in found)
        except PatternError:
            return False
    return all(f".{name}".endswith(tuple(f".{target}" for target in targets)) for name in found)
