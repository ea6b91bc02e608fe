"""CLIP's tokenizers as other projects ship them: one of diffsynth's has a damaged merges.txt."""

import shutil

import pytest

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models import clip_tokenizer
from vidrd_core.models.clip_tokenizer import find_tokenizer, load_tokenizer

pytestmark = pytest.mark.real
TEXTS = ["a photograph of an astronaut riding a horse", "naïve café, 3.5 % (don't)", "一只猫 🐈", ""]
DAMAGED = "stable_diffusion_xl/tokenizer_2"


@pytest.fixture(scope="module")
def published(carried):
    """OpenAI's vocabulary as open-clip-torch carries it."""
    return carried("open-clip-torch==3.3.0") / "open_clip"


def test_tokenizers_of_others_agree_with_the_published_vocabulary(carried, published, monkeypatch, tmp_path):
    (tmp_path / "open_clip").mkdir()
    (tmp_path / "open_clip" / "__init__.py").touch()
    shutil.copy(published / clip_tokenizer.VOCABULARY_FILE, tmp_path / "open_clip")
    monkeypatch.syspath_prepend(tmp_path)
    ours = find_tokenizer(49408, tmp_path)
    configs = carried("diffsynth==1.1.7") / "diffsynth" / "tokenizer_configs"
    folders = {path.parent.relative_to(configs).as_posix(): path.parent for path in configs.rglob("merges.txt")}
    assert len(folders) >= 6
    for name, folder in folders.items():
        if name == DAMAGED:
            with pytest.raises(FormatError, match=r"tokenizer_2 (cannot be read|is damaged)"):
                load_tokenizer(folder, 49408)
            continue
        theirs = load_tokenizer(folder, 49408)
        assert theirs.get_vocab() == ours.get_vocab(), name
        for text in TEXTS:
            assert theirs(text).input_ids == ours(text).input_ids, (name, text)
