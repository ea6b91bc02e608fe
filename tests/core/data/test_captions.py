"""Captions from sidecar files and tables, from a server, and from a local model."""

import base64
import contextlib
import io
import json
import socket
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import ClassVar

import pytest
from PIL import Image

from vidrd_core.cli.data.options import CaptionOptions
from vidrd_core.cli.evaluate_options import FolderOptions
from vidrd_core.data.captioners.local import LocalModel
from vidrd_core.data.captioners.server import Server
from vidrd_core.data.captions import AddCaption, CaptionerError, Sidecar, key_frames
from vidrd_core.data.files import find_files
from vidrd_core.data.records import IMAGE, Record, UnfitError
from vidrd_core.data.runner import settings_of
from vidrd_core.data.stills import Stills
from vidrd_core.evaluation.videos import from_folder

from .media import numbered, write_still, write_video


def test_captions_come_from_sidecar_files_or_a_table(tmp_path):
    folder = tmp_path / "files"
    for name in ("a.png", "sub/b.png", "c.png", "d.png"):
        write_still(folder / name)
    (folder / "a.txt").write_text("\ufeff  one\n two ", encoding="utf-8")
    (tmp_path / "t.csv").write_text('file_name,caption\nsub/b.png,"three,\nfour"\nc.png,five\n')
    found = find_files(folder, (".png",), "a picture", tmp_path / "t.csv")
    assert [r.caption for r in found] == ["one two", "five", "", "three, four"]
    (tmp_path / "t.jsonl").write_text('{"file_name": "d.png", "text": "six"}\n\n')
    found = find_files(folder, (".png",), "a picture", tmp_path / "t.jsonl")
    assert [r.caption for r in found] == ["one two", "", "six", ""]


def test_a_table_wins_over_the_text_beside_a_file(tmp_path):
    folder = tmp_path / "files"
    for name in ("a", "b"):
        write_video(folder / "sub" / f"{name}.mp4", numbered(4))
        (folder / "sub" / f"{name}.txt").write_text(f"beside {name}")
    table = tmp_path / "t.csv"
    table.write_text("file_name,caption\nsub/a.mp4,of the table\n")
    expected = ["of the table", "beside b"]
    assert [found.caption for found in find_files(folder, (".mp4",), "a video", table)] == expected
    assert [source.load().text for source in from_folder(folder, table=table)] == expected
    for options in (CaptionOptions, FolderOptions):
        assert "it wins over NAME.txt beside" in " ".join(options.__doc__.split())


def test_a_text_that_is_not_utf_8_is_named(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(4))
    (tmp_path / "a.txt").write_bytes(b"one\ncaf\xe9")
    (skipped,) = find_files(tmp_path, (".mp4",), "a video")
    assert "a.txt, line 2 is no UTF-8 text" in skipped.reason
    (source,) = from_folder(tmp_path)
    with pytest.raises(ValueError, match=r"a\.mp4 has a caption .*a\.txt, line 2 is no UTF-8 text"):
        source.load()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "name,words\na.png,hello\n", "line 2: expected columns for a file .* got name, words"),
        ("t.jsonl", "{\n", "line 1 is not JSON"),
        ("t.jsonl", "[1]\n", r"line 1 is '\[1\]', expected names with values"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        list(find_files(tmp_path, (".png",), "a picture", tmp_path / name))


def test_key_frames_are_spread_over_the_segment(tmp_path):
    path = str(write_video(tmp_path / "a.mp4", numbered(48, width=1024, height=512)))
    frames = key_frames(Record(path, start=0, stop=2), 4)
    assert [round((frame.mean() - 20) / 4) for frame in frames] == [6, 18, 30, 42]
    assert frames[0].shape == (384, 768, 3), "no larger than a model looks at"
    still = write_still(tmp_path / "b.png")
    assert len(key_frames(Record(str(still), kind=IMAGE), 4)) == 1


class Scripted(BaseHTTPRequestHandler):
    """Answers with what the test wrote into `answers`, and notes what it was asked."""

    answers: ClassVar[list] = []
    asked: ClassVar[list] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers.get("Authorization"), body))
        code, answer = self.answers.pop(0)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(code)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Unruly(BaseHTTPRequestHandler):
    """Answers as its path says."""

    keys: ClassVar[list] = []
    elsewhere: ClassVar[str] = ""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.path.split("/")[1]
        self.keys.append((kind, self.headers.get("Authorization")))
        if kind == "redirect":
            self.send_response(307)
            self.send_header("Location", self.elsewhere)
            self.end_headers()
            return
        with contextlib.suppress(OSError):
            self.answer(kind)

    def do_GET(self):
        self.keys.append(("GET", self.headers.get("Authorization")))
        self.send_response(405)
        self.end_headers()

    def answer(self, kind):
        if kind == "slow_head":
            for letter in b"HTTP/1.1 200 OK" * 1000:
                self.wfile.write(bytes([letter]))
                time.sleep(0.05)
        if kind == "later":
            self.send_response(429)
            then = formatdate(time.time() + 60, usegmt=True)
            self.send_header("Retry-After", "7" if len(self.keys) == 1 else then)
            self.end_headers()
            return
        self.send_response(200)
        length = {"short": 10_000}.get(kind)
        if kind == "packed":
            self.send_header("Content-Encoding", "gzip")
        if length:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if kind == "endless":
            while True:
                self.wfile.write(b" " * 65536)
        if kind == "slow":
            for _ in range(1000):
                self.wfile.write(b" ")
                time.sleep(0.05)
        self.wfile.write(b'{"choices": [{"mess' if kind in ("short", "cut") else json.dumps(said("yes")).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def unruly():
    """The address of a server that answers by path, and a function that says where it redirects to."""
    Unruly.keys = []
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Unruly) for _ in "12"]
    for http in servers:
        threading.Thread(target=http.serve_forever, daemon=True).start()
    own, other = (f"http://127.0.0.1:{http.server_port}" for http in servers)
    yield own, other
    for http in servers:
        http.shutdown()
        http.server_close()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("endless", "its answer is longer than 1048576 bytes"),
        ("slow", "it took longer than 0.5 s"),
        ("slow_head", "it took longer than 0.5 s"),
        ("short", "in 2 tries: .*closed.*"),
        ("cut", "its answer is damaged"),
        ("packed", r"its answer is compressed \(gzip\), which was not asked for"),
        ("slow_name", "it took longer than 0.5 s"),
    ],
)
def test_an_answer_that_never_comes_whole_costs_one_record(unruly, tmp_path, monkeypatch, kind, message):
    path = write_video(tmp_path / "a.mp4", numbered(24))
    found, own = threading.Event(), unruly[0]
    if kind == "slow_name":
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found.wait(20))
        own = own.replace("127.0.0.1", "localhost")
    began = time.monotonic()
    with pytest.raises(
        UnfitError, match=rf"got no caption from the server in 2 tries: .*{message}|{message}"
    ) as error:
        captions(Server(f"{own}/{kind}", "m", wait=0.01, tries=2, timeout=0.5 if "slow" in kind else 20), path)
    found.set()
    assert time.monotonic() - began < 10
    if "slow" in kind:  # on a busy machine a try may end before the server has seen it
        assert "in 2 tries" in str(error.value)
        assert len(Unruly.keys) <= (0 if kind == "slow_name" else 2)
    else:
        assert len(Unruly.keys) == 2


def test_the_key_goes_to_no_other_host(unruly, tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", numbered(24))
    monkeypatch.setenv("MY_KEY", "secret")
    captioner = Server(f"{unruly[0]}/redirect", "m", wait=0.01, tries=2, key_variable="MY_KEY")
    Unruly.elsewhere = f"{unruly[1]}/fine/chat/completions"
    assert captions(captioner, path) == ["yes"]
    assert Unruly.keys == [("redirect", "Bearer secret"), ("fine", None)]
    Unruly.keys.clear()
    Unruly.elsewhere = f"{unruly[0]}/fine/chat/completions"
    assert captions(captioner, path) == ["yes"]
    assert Unruly.keys == [("redirect", "Bearer secret"), ("fine", "Bearer secret")]


@pytest.mark.parametrize("elsewhere", ["file:///etc/hostname", "ftp://127.0.0.1/x", "http://127.0.0.1:0/x", "LOOP"])
def test_a_redirect_that_leads_nowhere_stops_the_run(unruly, tmp_path, elsewhere):
    path = write_video(tmp_path / "a.mp4", numbered(24))
    Unruly.elsewhere = f"{unruly[0]}/redirect/again" if elsewhere == "LOOP" else elsewhere
    with pytest.raises(CaptionerError, match="sends elsewhere, where there is no answer"):
        captions(Server(f"{unruly[0]}/redirect", "m", wait=0.01), path)


@pytest.fixture
def server():
    Scripted.answers, Scripted.asked = [], []
    http = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/v1"
    http.shutdown()
    http.server_close()


def said(text):
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


def captions(captioner, path):
    return [record.caption for record in AddCaption(captioner)(Record(str(path)))]


def test_a_server_gets_key_frames(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    path = write_video(tmp_path / "a.mp4", numbered(24))
    Scripted.answers.append((200, said(" A gray\n picture. ")))
    captioner = Server(server, "some-model", prompt="What is it?", key_frames=2, key_variable="MY_KEY")
    assert captions(captioner, path) == ["A gray picture."]
    ((where, key, body),) = Scripted.asked
    assert (where, key) == ("/v1/chat/completions", "Bearer secret")
    assert (body["model"], body["messages"][0]["content"][0]["text"]) == ("some-model", "What is it?")
    urls = [part["image_url"]["url"] for part in body["messages"][0]["content"][1:]]
    levels = [_picture(url).getpixel((32, 32))[0] for url in urls]
    assert levels == [pytest.approx(20 + 4 * 6, abs=4), pytest.approx(20 + 4 * 18, abs=4)]
    assert "secret" not in repr(captioner)


def _picture(url):
    head, data = url.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_busy_server_is_asked_again(server, tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(24))
    Scripted.answers += [(503, b"busy"), (429, b"slowly"), (200, said("at last"))]
    assert captions(Server(server, "m", wait=0.01), path) == ["at last"]
    assert len(Scripted.asked) == 3


@pytest.mark.parametrize(
    ("answers", "kind", "message"),
    [
        ([(400, b"too large")], UnfitError, "is refused by the server, 400: too large"),
        ([(200, said("  "))], UnfitError, "has a caption without words, ''"),
        ([(200, said(None))], UnfitError, "got no caption from the server"),
        ([(404, b"no such model")], CaptionerError, "refuses the model 'm', 404: no such model"),
        ([(200, b"<html>")], CaptionerError, "does not answer with JSON"),
        ([(200, {"error": 1})], UnfitError, "got no caption from the server"),
        ([(200, {"choices": []})], UnfitError, "got no caption from the server"),
        ([(200, said("word " * 3000))], UnfitError, "has a caption of 14999 characters, expected at most 10000"),
        ([(500, b"oops")] * 2, UnfitError, "got no caption from the server in 2 tries: 500: oops"),
        ([(204, b"")] * 2, UnfitError, "got no caption from the server in 2 tries: 204"),
        ([(503, b"busy")] * 2, CaptionerError, "did not answer in 2 tries: 503: busy"),
    ],
)
def test_a_record_is_skipped_or_the_run_stops(server, tmp_path, answers, kind, message):
    path = write_video(tmp_path / "a.mp4", numbered(24))
    Scripted.answers += answers
    with pytest.raises(kind, match=message):
        captions(Server(server, "m", wait=0.01, tries=2), path)


def test_a_caption_in_parts_is_put_together(server, tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(24))
    Scripted.answers.append((200, said([{"type": "text", "text": "a gray"}, {"type": "text", "text": "picture"}, 1])))
    assert captions(Server(server, "m"), path) == ["a gray picture"]


@pytest.mark.parametrize("key", ["se\ncret", "s\u00e9cret", "se\x07cret"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(ValueError, match=r"the key in MY_KEY has characters that no key has: set it again$"):
        Server("http://127.0.0.1:9/v1", "m", key_variable="MY_KEY")


def test_a_key_may_end_in_a_line_break(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret\n")
    Scripted.answers.append((200, said("yes")))
    captions(Server(server, "m", key_variable="MY_KEY"), write_video(tmp_path / "a.mp4", numbered(24)))
    assert Scripted.asked[0][1] == "Bearer secret"


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/v1", "http:///v1", "file:///v1", ""])
def test_an_address_that_cannot_be_asked_is_refused(url):
    with pytest.raises(ValueError, match=r"the server is .*, expected an address like http://localhost:8000/v1"):
        Server(url, "m")


def test_a_server_may_say_when_it_is_to_be_asked_again(unruly, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(
        "vidrd_core.data.captioners.server.time", SimpleNamespace(sleep=waited.append, time=time.time)
    )
    path = write_video(tmp_path / "a.mp4", numbered(24))
    with pytest.raises(CaptionerError, match="did not answer in 3 tries: 429"):
        captions(Server(f"{unruly[0]}/later", "m", wait=0.01, tries=3), path)
    assert waited == [7.0, pytest.approx(60, abs=2)]


def test_an_unreachable_server_stops_the_run(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(24))
    with pytest.raises(CaptionerError, match=r"did not answer in 2 tries: .*refused"):
        captions(Server("http://127.0.0.1:9/v1", "m", wait=0.01, tries=2), path)
    with pytest.raises(ValueError, match="the server is 'localhost', expected an address like http"):
        Server("localhost", "m")


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    """A BLIP of a few thousand random parameters, as a folder of transformers."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("blip")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "red", "square", "moves", "picture", "of"]
    (folder / "vocab.txt").write_text("\n".join(words))
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BlipConfig(
        text_config={
            **size, "vocab_size": len(words), "encoder_hidden_size": 16, "bos_token_id": 5, "eos_token_id": 3,
            "pad_token_id": 0, "sep_token_id": 3, "projection_dim": 16,
        },
        vision_config={**size, "image_size": 32, "patch_size": 16, "projection_dim": 16},
        projection_dim=16, image_text_hidden_size=16,
    )  # fmt: skip
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder)
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    image_processor = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    transformers.BlipProcessor(image_processor, tokenizer).save_pretrained(folder)
    return folder


def test_a_local_model_captions(blip, tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(24))
    captioner = LocalModel(blip, max_tokens=6)
    record, pictures = Record(str(path)), key_frames(Record(str(path)), 1)
    caption = captioner(record, pictures)
    assert isinstance(caption, str)
    assert caption == captioner(record, pictures), "the same each time"
    asked = LocalModel(blip, prompt="a picture of", max_tokens=6)(record, pictures)
    assert isinstance(asked, str)


def test_a_folder_without_a_model_stops_the_run(tmp_path):
    with pytest.raises(CaptionerError, match="there is no folder"):
        LocalModel(tmp_path / "none")(Record("a"), [])
    with pytest.raises(CaptionerError, match="holds no image-text model that transformers can load"):
        LocalModel(tmp_path)(Record("a"), [])


def test_without_a_captioner_a_caption_must_exist():
    with pytest.raises(UnfitError, match=r"has no caption: put it beside the file as NAME\.txt"):
        Sidecar()(Record("a"), [])


def test_a_model_is_asked_where_there_is_no_caption(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(24))

    class Model:
        key_frames = 1

        def __call__(self, record, pictures):
            return f"{len(pictures)} picture"

    said, silent = Record(str(path), caption="its own"), Record(str(path))
    for step, expected in ((AddCaption(Model()), "its own"), (AddCaption(Model(), recaption=True), "1 picture")):
        assert [record.caption for record in step(said)] == [expected]
        assert [record.caption for record in step(silent)] == ["1 picture"]


def test_a_models_address_does_not_change_the_settings(tmp_path):
    one, other = (Server(url, "m", tries=tries) for url, tries in (("http://a:1/v1", 2), ("http://b:2/v1", 5)))
    assert settings_of(Stills(tmp_path, one)) == settings_of(Stills(tmp_path, other))
    assert settings_of(Stills(tmp_path, one)) != settings_of(Stills(tmp_path, Server("http://a:1/v1", "n")))
    local, moved = (LocalModel(tmp_path / name, device=name) for name in ("cpu", "cuda"))
    assert settings_of(Stills(tmp_path, local)) == settings_of(Stills(tmp_path, moved))
