"""Files that are sent with a message: added, sent, downloaded, and gone with their conversation."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import pytest

from chat_api.files import Folder, files
from chat_api.settings import SettingsError
from tests.conftest import Running

CONTENT = b"\x00\x01 not a text \xff"


def kept(chat: Running) -> int:
    return len([path for path in Path(chat.settings.files).rglob("*") if path.is_file()])


def test_a_file_goes_along_with_a_message_and_comes_back_byte_by_byte(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    added = ann.adds(conversation, "Übersicht 1.pdf", CONTENT, media_type="application/pdf")
    assert (added["message_id"], added["size_bytes"]) == (None, len(CONTENT))
    with ann.saying(conversation, "See the file", key="f", attachment_ids=[added["id"]]) as answer:
        assert answer.status_code == 200
        answer.read()
    question, reply = ann.http.get(f"/api/conversations/{conversation}/messages").json()["items"]
    assert [(one["id"], one["name"], one["message_id"]) for one in question["attachments"]] == [
        (added["id"], "Übersicht 1.pdf", question["id"])
    ]
    assert reply["attachments"] == []
    file = ann.http.get(f"/api/attachments/{added['id']}")
    assert (file.content, file.headers["content-type"]) == (CONTENT, "application/pdf")
    assert file.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%9Cbersicht%201.pdf"
    [row] = chat.owner.execute("SELECT sha256, size_bytes FROM attachments WHERE id = %s", [added["id"]]).fetchall()
    assert row == (hashlib.sha256(CONTENT).digest(), len(CONTENT))
    again = ann.says(conversation, "See the file", key="f")  # sent again, it is stored once
    assert [one["id"] for one in again[0].data["attachments"]] == [added["id"]]


def test_a_page_of_somebody_s_is_a_download_and_runs_nothing(chat: Running) -> None:
    ann = chat.person()
    added = ann.adds(ann.begins()["id"], "x.html", b"<script>alert(1)</script>", media_type="text/html")
    headers = ann.http.get(f"/api/attachments/{added['id']}").headers
    assert headers["content-disposition"].startswith("attachment;")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_a_file_is_sent_once_and_only_where_it_was_added(chat: Running) -> None:
    ann = chat.person()
    conversation, other = ann.begins()["id"], ann.begins()["id"]
    added = ann.adds(conversation, "a.txt", b"a")
    for where, file in ((other, added["id"]), (conversation, str(uuid.uuid4()))):
        with ann.saying(where, "take it", attachment_ids=[file]) as answer:
            answer.read()
            assert (answer.status_code, answer.json()["type"]) == (409, "urn:chat-api:problem:no-such-file")
    assert ann.reads(other) == ann.reads(conversation) == []  # nothing was stored of it
    with ann.saying(conversation, "now", attachment_ids=[added["id"]]) as answer:
        answer.read()
    with ann.saying(conversation, "once more", attachment_ids=[added["id"]]) as answer:
        assert answer.status_code == 409


def test_the_bytes_go_with_the_row(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    before = kept(chat)
    first, _ = ann.adds(conversation, "a.txt", b"a"), ann.adds(conversation, "b.txt", b"b")
    assert kept(chat) == before + 2
    assert ann.http.delete(f"/api/attachments/{first['id']}").status_code == 204
    assert ann.http.delete(f"/api/attachments/{first['id']}").status_code == 404
    assert kept(chat) == before + 1
    ann.http.delete(f"/api/conversations/{conversation}")
    assert kept(chat) == before + 1  # it may come back from the trash
    ann.http.delete(f"/api/conversations/{conversation}", params={"forever": True})
    assert kept(chat) == before


def test_nobody_reads_adds_or_deletes_another_s_files(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    chat.tenant("Acme", ann, bob)
    conversation, own = ann.begins()["id"], bob.begins()["id"]
    added = ann.adds(conversation, "a.txt", b"a")
    before = kept(chat)
    at = f"/api/attachments/{added['id']}"
    assert bob.http.get(at).json() == bob.http.get(f"/api/attachments/{uuid.uuid4()}").json()
    assert [bob.http.request(method, at).status_code for method in ("GET", "DELETE")] == [404, 404]
    path = f"/api/conversations/{conversation}/attachments"
    assert bob.http.post(path, content=b"x", params={"name": "x"}).status_code == 404
    with bob.saying(own, "mine now", attachment_ids=[added["id"]]) as answer:
        assert answer.status_code == 409
    assert ann.http.get(at).content == b"a"
    assert kept(chat) == before


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\x00", "a\nb", "", "x" * 201, "a\\b"])
def test_a_name_that_is_no_name_is_refused(chat: Running, name: str) -> None:
    ann = chat.person()
    path = f"/api/conversations/{ann.begins()['id']}/attachments"
    assert ann.http.post(path, content=b"x", params={"name": name}).status_code == 422


def test_a_file_that_is_too_large_is_refused_and_not_kept(chat: Running) -> None:
    ann = chat.person()
    path = f"/api/conversations/{ann.begins()['id']}/attachments"
    before = kept(chat)
    assert ann.http.post(path, content=b"x" * 600_000, params={"name": "fits"}).status_code == 201
    assert ann.http.post(path, content=b"x" * (10 * 1024 * 1024 + 1), params={"name": "large"}).status_code == 413
    assert kept(chat) == before + 1


def test_nothing_is_added_to_a_conversation_in_the_trash(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    ann.http.delete(f"/api/conversations/{conversation}")
    path = f"/api/conversations/{conversation}/attachments"
    assert ann.http.post(path, content=b"x", params={"name": "x"}).status_code == 409


def test_a_setting_names_a_folder_or_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(files(str(tmp_path)), Folder)
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)  # as where the extra is not installed
    with pytest.raises(SettingsError, match=r"pip install 'chat-api-example\[s3\]'"):
        files("s3://bucket")
