"""English texts come from the schemas; translations are complete, and keep what may not be translated."""

import re
from collections import Counter

import pytest

from ..stand_in import definitions
from ..workflows.slots import slots
from .texts import FILES, LOCALES, OTHERS, arranged, english, flat, nested, place, read, written

HAN = re.compile("[\u4e00-\u9fff]")
KANA = re.compile("[\u3041-\u30ff]")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
LITERAL = re.compile(  # what is not English prose: ',, 7', models/vae, cfg_pp, fp8, DDIM, UNet3D, M
    r"'[^']*'|\w+/\w+|\w*(?:_|[a-z]\d)\w*|[A-Z][A-Z0-9]+|[A-Z]\w*[A-Z]\w*|\b[B-HJ-Z]\b", re.ASCII
)
WORD = re.compile(r"[A-Za-z]\w*", re.ASCII)
QUOTED = re.compile("“.*?”|「.*?」")  # names of nodes
UNTRANSLATED = {"model", "clip", "vae", "latent", "alpha", "beta", "cfg", "fps"}  # names that may stay English
METHODS = {"fnr", "pns", "dsg"}  # may be added to their translated names


@pytest.fixture(scope="module")
def nodes():
    """Our nodes' definitions by id."""
    return definitions()


@pytest.fixture(scope="module")
def pairs(nodes):
    """By language: key, English text and translation of every text."""
    source = [(file, path, text) for file, texts in english(nodes).items() for path, text in flat(texts).items()]
    known = {(language, file): flat(read(language, file)) for language in OTHERS for file in FILES}
    return {
        language: [(path, text, known[language, file].get(path, "")) for file, path, text in source]
        for language in OTHERS
    }


def is_sentence(path):
    return path.endswith((".tooltip", ".description"))


def test_english_is_what_the_schemas_say(nodes):
    """Run `python -m tools.node_files`; it lists the translations that are missing then."""
    for file, texts in english(nodes).items():
        assert place("en", file).read_text(encoding="utf-8") == written(texts)


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("file", FILES)
def test_each_text_has_its_translation(language, file):
    """`python -m tools.node_files` lists the missing ones, and puts them in order."""
    texts = flat(read(language, file))
    assert list(texts) == list(flat(read("en", file)))
    for path, source in texts.items():
        assert source == source.strip() != "", path


def test_the_files_are_what_the_host_reads():
    """UTF-8 without a byte order mark, in our layout, and no other files."""
    expected = {place(language, file) for language in ("en", *OTHERS) for file in FILES}
    assert {path for path in LOCALES.rglob("*") if path.is_file()} == expected
    for path in expected:
        assert path.read_text(encoding="utf-8") == written(read(path.parent.name, path.stem)), path


@pytest.mark.parametrize("language", OTHERS)
def test_translations_are_in_their_language(pairs, language):
    for path, _, translated in pairs[language]:
        if is_sentence(path):
            assert (HAN if language == "zh" else KANA).search(translated), path
            assert translated.endswith("。"), path
            assert not re.search(r"[,;:!?()]|[.](?!\d)", re.sub("'.*'", "", QUOTED.sub("", translated))), path
        else:
            assert HAN.search(translated) or KANA.search(translated) or translated.lower() in UNTRANSLATED, path
        assert language == "ja" or not KANA.search(translated), path


@pytest.mark.parametrize("language", OTHERS)
def test_numbers_names_and_letters_are_kept(pairs, language):
    for path, source, translated in pairs[language]:
        if is_sentence(path):
            assert Counter(NUMBER.findall(translated)) == Counter(NUMBER.findall(source)), path
            assert set(LITERAL.findall(source)) <= set(LITERAL.findall(translated)), path
            words = {each.lower() for each in WORD.findall(QUOTED.sub("", translated))}
            assert words <= set(re.findall(r"\w+", source.lower())) | METHODS | {"latent"}, path


@pytest.mark.parametrize("language", OTHERS)
def test_choices_are_referred_to_by_their_ids(nodes, language):
    texts = flat(read(language, "nodeDefs"))
    for name, node in nodes.items():
        for each in slots(node):
            tooltip, translated = each.config["tooltip"], texts[f"{name}.inputs.{each.name}.tooltip"]
            for choice in each.config.get("options", ()):
                if re.search(rf"(?<!\w){re.escape(choice)}:", tooltip):
                    assert choice + "\N{FULLWIDTH COLON}" in translated, (name, each.name, choice)
            for choice in ("mirror", "forward"):
                assert (choice in tooltip) == (choice in translated), (name, each.name)


@pytest.mark.parametrize("language", OTHERS)
def test_our_nodes_are_referred_to_by_their_translated_names(nodes, pairs, language):
    texts = read(language, "nodeDefs")
    for path, source, translated in pairs[language]:
        for name, node in nodes.items():
            if is_sentence(path) and node["display_name"].removeprefix("VidRD ") in source:
                called = re.escape(texts[name]["display_name"])
                assert re.search(f"[“「]{called}[”」]", translated), (path, called)


@pytest.mark.parametrize("language", OTHERS)
def test_the_same_english_is_the_same_in_translation(pairs, language):
    seen = {}
    for path, source, translated in pairs[language]:
        if is_sentence(path) or ".inputs." in path:
            assert seen.setdefault(source, translated) == translated, (path, source)


@pytest.mark.parametrize("language", ["en", *OTHERS])
def test_no_text_has_characters_that_vue_i18n_interprets(language):
    """vue-i18n reads { } @ | as placeholders, links and plurals, and warns about HTML."""
    for file in FILES:
        for path, source in flat(read(language, file)).items():
            assert not set("{}@|<>") & set(source), path


def test_texts_are_arranged_like_the_english():
    """No English text fills the place of a missing translation."""
    like = {"b": {"x": "new", "y": "Y"}, "a": "A"}
    found = arranged({"a": "1", "b": {"y": "2", "gone": "3"}, "gone": {"z": "4"}}, like)
    assert written(found) == written({"b": {"y": "2"}, "a": "1"})
    assert nested(flat(found)) == found
