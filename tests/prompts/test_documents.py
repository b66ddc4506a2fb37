"""A corpus document by document: every format, every order, every error."""

import itertools
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sternpost.errors import PromptFileError
from sternpost.prompts.documents import Documents, open_documents
from sternpost.training.corpus import Walk
from sternpost.types import Message

CHAT = [{"messages": [{"role": "user", "content": f"Ask {i}"},
                      {"role": "assistant", "content": f"Reply {i}"}]} for i in range(23)]
TEXT = [{"text": f"Words {i}", "source": "book"} for i in range(23)]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    import pandas as pd

    if path.suffix == ".jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in rows))  # blank lines, no last end
    elif path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        pd.DataFrame(rows).to_parquet(path, row_group_size=5)
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_plain_text(tmp_path: Path, suffix: str) -> None:
    found = open_documents(write(tmp_path / f"a{suffix}", TEXT))
    assert (len(found), found.chat, found.column) == (23, False, "text")
    assert [found[at].text for at in (22, 0, 7, 8)] == [f"Words {at}" for at in (22, 0, 7, 8)]
    assert not found[3].messages


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_conversations(tmp_path: Path, suffix: str) -> None:
    found = open_documents(write(tmp_path / f"a{suffix}", CHAT))
    assert found.chat
    assert found[9].messages == (Message("user", "Ask 9"), Message("assistant", "Reply 9"))


def test_a_prompt_with_its_response_is_a_conversation_and_a_column_can_be_named(
        tmp_path: Path) -> None:
    rows = [{"prompt": f"Ask {i}", "response": f"Reply {i}"} for i in range(3)]
    path = write(tmp_path / "a.jsonl", rows)
    assert open_documents(path)[1].messages[-1] == Message("assistant", "Reply 1")
    path = write(tmp_path / "b.jsonl", [{"text": "Other", "note": f"Note {i}"} for i in range(3)])
    named = open_documents(f"{path}#note")
    assert (named[1].text, named[1].messages, named.chat) == ("Note 1", (), False)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_every_round_has_every_document_once_in_its_own_order(tmp_path: Path, suffix: str) -> None:
    found = open_documents(write(tmp_path / f"a{suffix}", TEXT))
    rounds = [[found.shuffled(n + 23 * r, seed=4) for n in range(23)] for r in range(6)]
    assert all(sorted(one) == list(range(23)) for one in rounds)
    assert len({tuple(one) for one in rounds}) == 6
    assert rounds[0] != [found.shuffled(n, seed=5) for n in range(23)]
    if suffix == ".parquet":  # part by part: a row group is read once a round
        parts = [[number // 5 for number in one] for one in rounds]
        assert all(sum(a != b for a, b in itertools.pairwise(one)) == 4 for one in parts)


@pytest.mark.parametrize(("rows", "match"), [
    ('{"text": "fine"}\n{broken', "document 2: broken JSON"),
    ('{"text": "fine"}\n[1]', "document 2: got"),
    ('{"text": "fine"}\n{"text": " "}', "blank"),
    ('{"messages": [{"role": "robot", "content": "x"}]}', "the role 'robot'"),
    ('{"words": "x"}', "no prompt column"),
    ("\n\n", "no rows"),
])
def test_what_is_wrong_is_named(tmp_path: Path, rows: str, match: str) -> None:
    (tmp_path / "a.jsonl").write_text(rows)
    with pytest.raises(PromptFileError, match=match):
        documents = open_documents(str(tmp_path / "a.jsonl"))
        _ = [documents[at] for at in range(len(documents))]


def test_a_broken_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(PromptFileError, match="not readable Parquet"):
        open_documents(str(tmp_path / "a.parquet"))


def test_a_hub_data_set_is_read_where_it_lies(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="pip install 'sternpost[datasets]'")
    write(tmp_path / "train.jsonl", TEXT)
    assert open_documents(f"hf:{tmp_path}/train")[5].text == "Words 5"


def both(tmp_path: Path) -> list[Documents]:
    return [open_documents(write(tmp_path / "a.jsonl", CHAT)),
            open_documents(write(tmp_path / "b.jsonl", TEXT))]


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
def test_chat_has_its_share_of_the_tokens(tmp_path: Path, share: float) -> None:
    walk = Walk(both(tmp_path), share, seed=1)
    cursor: dict[str, Any] = dict(walk.start())
    for _ in range(200):
        kind, texts, after = walk.next(cursor)
        tokens = list(after["tokens"])
        tokens[kind] += sum(20 if text.messages else 3 for text in texts)
        cursor = {**after, "tokens": tokens}
    assert cursor["tokens"][0] / sum(cursor["tokens"]) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(("share", "kinds"), [(1.0, [True]), (0.0, [False])])
def test_a_share_of_nothing_reads_nothing(tmp_path: Path, share: float, kinds: list[bool]) -> None:
    walk = Walk(both(tmp_path), share, seed=1)
    assert [bool(walk.next(walk.start())[1][0].messages)] == kinds
    alone = Walk(both(tmp_path)[1:], share, seed=1)
    assert not alone.next(alone.start())[1][0].messages


def test_processes_read_different_documents_and_all_of_them(tmp_path: Path) -> None:
    docs = both(tmp_path)[1:]
    read: list[list[str]] = []
    for process in range(2):
        walk = Walk(docs, 1.0, 3, process, 2)
        _, texts, after = walk.next(walk.start())
        read.append([text.text for text in texts])
        assert after["served"] == [len(texts) + sum(
            docs[0].shuffled(2 * n + process, 3) % 20 == 0 for n in range(after["served"][0]))]
    first = [set(one[:8]) for one in read]
    assert not first[0] & first[1]


def test_documents_that_cannot_be_read_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in TEXT]
    lines[3], lines[7], lines[20] = '{"text": " "}', "{broken", "[]"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    walk = Walk([open_documents(str(tmp_path / "a.jsonl"))], 1.0, seed=1)
    _, texts, after = walk.next(walk.start())
    rounds = after["served"][0] / 23
    assert 2 * (rounds - 1) <= after["broken"] <= 2 * (rounds + 1)  # document 20 is held out
    assert any(f"{name}" in after["said"] for name in ("row 4", "document 8"))
    assert not {"Words 3", "Words 7", "Words 20", "Words 0"} & {text.text for text in texts}
    assert [text.text for text in walk.held_out()] == ["Words 0"]


def test_a_file_is_known_by_the_first_rows_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": " "}\n{broken\n{"prompt": "a", "response": "b"}\n')
    found = open_documents(f"{tmp_path / 'a.jsonl'}#prompt")
    assert (found.column, found.chat) == ("prompt", True)
    (tmp_path / "b.jsonl").write_text("{broken\n[]\n")
    with pytest.raises(PromptFileError, match="document 1: broken JSON"):
        open_documents(str(tmp_path / "b.jsonl"))


def test_a_parquet_file_may_have_empty_row_groups(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = pa.table({"text": [f"Words {i}" for i in range(5)]})
    with parquet.ParquetWriter(tmp_path / "a.parquet", rows.schema) as file:
        for part in (rows[:2], rows[:0], rows[2:]):
            file.write_table(part)
    found = open_documents(str(tmp_path / "a.parquet"))
    assert found.sizes == (2, 3)
    walked = sorted(found[found.shuffled(n, 1)].text or "" for n in range(5))
    assert walked == [f"Words {i}" for i in range(5)]


def test_what_is_measured_on_is_spread_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(
        json.dumps({"text": f"Words {i}"}) + "\n" for i in range(5000)))
    walk = Walk([open_documents(str(tmp_path / "a.jsonl"))], 1.0, seed=1)
    numbers = [int((text.text or "").split()[1]) for text in walk.held_out()]
    assert len(numbers) == len(set(numbers)) == 64
    assert max(b - a for a, b in pairwise(numbers)) <= 100
    assert numbers[-1] > 4800
    assert all(number % 20 == 0 for number in numbers)


def test_a_corpus_of_nothing_readable_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + '{"text": ""}\n' * 300)
    walk = Walk([open_documents(str(tmp_path / "a.jsonl"))], 1.0, seed=1)
    with pytest.raises(PromptFileError, match="blank"):
        walk.next(walk.start())
