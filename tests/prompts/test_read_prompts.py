import hashlib
import json
import sys
import types

import pytest

from sternpost.errors import InputError, LeakageError, MissingExtra, PromptFileError
from sternpost.prompts import read_prompts
from sternpost.types import Message

EXTRA = "Type: pip install 'sternpost[datasets]'"


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path
    return write


def texts(found):
    return [p.request.text for p in found.prompts]


def test_csv_with_all_optional_columns(file):
    path = file("a.csv", "prompt,category,language,harm_kind,task,answer,group,source,"
                         "viewpoint_pair,family,cluster,split,other\n"
                         "  Say hi. ,c,en,none,t,a,g,s,v,f,k,search,x\n")
    found = read_prompts(path, "safe")
    p = found.prompts[0]
    assert p.request.text == "Say hi."
    assert p.request.messages == (Message("user", "Say hi."),)
    assert p.request.sha256 == hashlib.sha256(b"Say hi.").hexdigest()
    assert (p.kind, p.category, p.language, p.harm_kind, p.task, p.answer) == (
        "safe", "c", "en", "none", "t", "a")
    assert (p.group, p.source, p.viewpoint_pair, p.family, p.cluster, p.split) == (
        "g", "s", "v", "f", "k", "search")
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.column, found.path, found.duplicates, found.warnings) == (
        "prompt", str(path), 0, ())


def test_candidate_columns_in_order(file):
    order = ["instruction", "question", "Behavior", "Goal", "goal", "prompt"]
    for i in range(len(order)):
        path = file("a.csv", ",".join(order[:i + 1]) + "\n" + ",".join(order[:i + 1]) + "\n")
        found = read_prompts(path, "unsafe")
        assert (found.column, texts(found)) == (order[i], [order[i]])


def test_a_named_column_wins(file):
    path = file("a.csv", "prompt,my text\nno,yes\n")
    assert texts(read_prompts(f"{path}#my text", "unsafe")) == ["yes"]


def test_a_file_with_a_hash_in_its_name(file):
    assert texts(read_prompts(file("a#b.csv", "prompt\nhi\n"), "unsafe")) == ["hi"]


def test_byte_order_mark_line_ends_quotes_and_blank_lines(file):
    path = file("a.CSV", '\ufeffprompt,category\r\n"a, ""b""\nc",x\r\n\r\nd,\r\n')
    found = read_prompts(path, "unsafe")
    assert texts(found) == ['a, "b"\nc', "d"]
    assert [p.category for p in found.prompts] == ["x", None]


def test_jsonl_numbers_nan_and_missing_keys(file):
    path = file("a.jsonl", '{"prompt": "a", "cluster": 3.0, "category": NaN}\n\n'
                           '{"prompt": "b\\u2028c", "answer": 4, "category": null}\r\n')
    a, b = read_prompts(path, "unsafe").prompts
    assert (a.cluster, a.category, a.answer) == ("3", None, None)
    assert (b.request.text, b.answer, b.category) == ("b\u2028c", "4", None)


def test_nan_in_csv_is_empty(file):
    path = file("a.csv", "prompt,category\na,nan\nb,NaN\nc,none\n")
    assert [p.category for p in read_prompts(path, "unsafe").prompts] == [None, None, "none"]


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow", reason=EXTRA)
    pq = pytest.importorskip("pyarrow.parquet", reason=EXTRA)
    messages = [{"role": "user", "content": "hi"}]
    pq.write_table(pa.table({"prompt": ["a", None], "cluster": [1.0, float("nan")],
                             "messages": [None, messages]}), tmp_path / "a.parquet")
    a, b = read_prompts(tmp_path / "a.parquet", "unsafe").prompts
    assert (a.request.text, a.cluster) == ("a", "1")
    assert (b.request.messages, b.cluster) == ((Message("user", "hi"),), None)


def test_messages_in_jsonl_and_csv_are_one_prompt(file):
    turns = [{"content": "Be brief.", "role": "system"}, {"role": "user", "content": " héllo "},
             {"role": "user", "content": "and?", "name": "x"}]
    one = read_prompts(file("a.jsonl", [{"messages": turns}]), "safe")
    cell = json.dumps(turns).replace('"', '""')
    two = read_prompts(file("a.csv", f'messages\n"{cell}"\n'), "safe")
    expected = ('[{"content":"Be brief.","role":"system"},{"content":" héllo ","role":"user"},'
                '{"content":"and?","role":"user"}]')
    assert texts(one) == texts(two) == [expected]
    assert one.column == two.column == "messages"
    assert [m.role for m in one.prompts[0].request.messages] == ["system", "user", "user"]
    assert one.prompts[0].request.sha256 == hashlib.sha256(expected.encode()).hexdigest()


def test_messages_stand_in_place_of_the_prompt(file):
    path = file("a.jsonl", [{"prompt": "a", "messages": [{"role": "user", "content": "b"}]},
                            {"prompt": "c"}])
    found = read_prompts(path, "safe")
    assert [p.request.messages[0].content for p in found.prompts] == ["b", "c"]
    named = read_prompts(f"{path}#prompt", "safe")
    assert texts(named) == ["a", "c"]
    assert "messages is not read" in named.warnings[0]


def test_duplicates_are_dropped_after_the_first_and_said(file):
    path = file("a.csv", "prompt,category\na,1\n a ,2\nb,3\na,4\n")
    found = read_prompts(path, "unsafe")
    assert [(p.request.text, p.category) for p in found.prompts] == [("a", "1"), ("b", "3")]
    assert found.duplicates == 2
    assert "2 of 4 rows" in found.warnings[0]


def test_split_counts_only_when_every_row_has_it(file):
    every = read_prompts(file("a.csv", "prompt,split\na,search\nb,test\n"), "unsafe")
    assert [p.split for p in every.prompts] == ["search", "test"]
    some = read_prompts(file("a.csv", "prompt,split\na,search\nb,\n"), "unsafe")
    assert [p.split for p in some.prompts] == [None, None]
    assert "1 of 2 rows" in some.warnings[0]


def test_one_prompt_in_two_splits_of_a_file_is_leakage(file):
    with pytest.raises(LeakageError, match="search and test"):
        read_prompts(file("a.csv", "prompt,split\nsame,search\nsame,test\n"), "unsafe")


def test_corpus_rows(file):
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]
    plain, messages = read_prompts(
        file("a.jsonl", [{"text": " once upon ", "prompt": "p"}, {"messages": talk}]),
        "corpus").prompts
    assert (plain.request.messages, plain.request.text) == ((), "once upon")
    assert [m.role for m in messages.request.messages] == ["user", "assistant"]
    both, alone = read_prompts(file("b.csv", "prompt,response\nq,r\np,\n"), "corpus").prompts
    assert both.request == messages.request
    assert alone.request.messages == (Message("user", "p"),)
    path = file("c.csv", "story\nonce\n")
    other = read_prompts(f"{path}#story", "corpus").prompts[0]
    assert (other.request.messages, other.request.text) == ((), "once")


def test_text_is_a_prompt_column_in_a_corpus_only(file):
    with pytest.raises(PromptFileError, match="no prompt column"):
        read_prompts(file("a.csv", "text\nhi\n"), "unsafe")


USER = {"role": "user", "content": "x"}
BAD = [
    ("a.txt", "prompt\nhi\n", r"extension \.txt is not known.*\.csv"),
    ("a", "prompt\nhi\n", r"extension \(none\)"),
    ("a.csv", "", "is empty"),
    ("a.jsonl", " \n\n", "is empty"),
    ("a.csv", "prompt,category\n", "has no rows, only the columns prompt, category"),
    ("a.csv", "foo,bar\n1,2\n", "columns are foo, bar; tried: prompt, goal, Goal, Behavior"),
    ("a.csv", b"prompt\nhi\ncaf\xe9\n", r"not UTF-8: byte 13 \(line 3\) is 0xe9.*LATIN1"),
    ("a.csv", "prompt\nhi\n".encode("utf-16"), "not UTF-8: byte 0 .*iconv -f UTF-16"),
    ("a.jsonl", '{"prompt": "a"}\n{"prompt": \n', "line 2: broken JSON"),
    ("a.jsonl", '{"prompt": "a"}\n["b"]\n', "line 2: got"),
    ("a.csv", "prompt,category\na,\n  ,x\n", r"row 2 \(line 3\): the cell under prompt is blank"),
    ("a.jsonl", [{"prompt": ""}], r"row 1 \(line 1\): .* blank"),
    ("a.jsonl", [{"prompt": "a"}, {"category": "b"}], "row 2 .* blank"),
    ("a.jsonl", [{"prompt": ["a"]}], "row 1 .*prompt holds a list"),
    ("a.csv", "prompt,split\na,train\n", "split is 'train'.*gate_calibration"),
    ("a.csv", "prompt,harm_kind\na,bad\n", "harm_kind is 'bad'.*harmful, offensive"),
    ("a.csv", "prompt,category\na,b,c\n", "3 cells under 2 columns"),
    ("a.csv", 'prompt\n"a\nb\n', "broken CSV"),
    ("a.csv", "prompt,prompt\na,b\n", "names prompt more than once"),
    ("a.csv", "messages\nhello\n", "messages: no JSON"),
    ("a.jsonl", [{"messages": []}], "no list with a turn"),
    ("a.jsonl", [{"messages": USER}], "no list with a turn"),
    ("a.jsonl", [{"messages": ["hi"]}], "turn 1 is no object"),
    ("a.jsonl", [{"messages": [USER, {"role": "tool", "content": "x"}]}], "turn 2 .*'tool'"),
    ("a.jsonl", [{"messages": [{"role": "user", "content": " "}]}], "turn 1 has no text"),
    ("a.jsonl", [{"messages": [{"role": "user"}]}], "turn 1 has no text"),
    ("a.jsonl", [{"messages": [USER, {"role": "assistant", "content": "x"}]}],
     "last turn is of the assistant"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_a_bad_file_is_refused_with_what_is_wrong(file, name, content, message):
    path = file(name, content)
    with pytest.raises(PromptFileError, match=message) as caught:
        read_prompts(path, "unsafe")
    assert str(path) in str(caught.value)


def test_broken_and_empty_parquet(file, tmp_path):
    pa = pytest.importorskip("pyarrow", reason=EXTRA)
    pq = pytest.importorskip("pyarrow.parquet", reason=EXTRA)
    with pytest.raises(PromptFileError, match="not readable Parquet"):
        read_prompts(file("a.parquet", b"no parquet"), "unsafe")
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "b.parquet")
    with pytest.raises(PromptFileError, match="has no rows, only the columns prompt"):
        read_prompts(tmp_path / "b.parquet", "unsafe")


def test_missing_file_folder_and_column(file, tmp_path):
    with pytest.raises(PromptFileError, match="does not exist"):
        read_prompts(tmp_path / "none.csv", "unsafe")
    with pytest.raises(PromptFileError, match="is a folder"):
        read_prompts(tmp_path, "unsafe")
    path = file("a.csv", "prompt,foo\na,b\n")
    with pytest.raises(PromptFileError, match="no column 'bar'; its columns are prompt, foo"):
        read_prompts(f"{path}#bar", "unsafe")
    with pytest.raises(PromptFileError, match="ends in '#'"):
        read_prompts(f"{path}#", "unsafe")


def test_capability_needs_an_answer(file):
    path = file("a.csv", "prompt,answer\n1+1?,2\n1+2?,\n")
    assert len(read_prompts(path, "unsafe").prompts) == 2
    with pytest.raises(PromptFileError, match=r"row 2 .* no answer"):
        read_prompts(path, "capability")


def test_kind_must_be_known(file):
    with pytest.raises(InputError, match="corpus"):
        read_prompts(file("a.csv", "prompt\na\n"), "good")  # pyright: ignore


# ---- data sets of the Hub --------------------------------------------------------------------

@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the `datasets` package that notes how it was called."""
    calls = []

    class DatasetsError(Exception):
        pass

    def load_dataset(name, config=None, *, split):
        calls.append((name, config, split))
        if name == "org/none":
            raise DatasetsError("no such data set")
        return [{"Goal": "a", "n": 1}, {"Goal": "b", "n": float("nan")}]

    fake = types.SimpleNamespace(load_dataset=load_dataset,
                                 exceptions=types.SimpleNamespace(DatasetsError=DatasetsError))
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return calls


@pytest.mark.parametrize(("spec", "call"), [
    ("hf:org/name/train", ("org/name", None, "train")),
    ("hf:org/name:main/test", ("org/name", "main", "test")),
    ("hf:org/name/train[:10]", ("org/name", None, "train[:10]")),
    ("hf:./my/folder/train", ("./my/folder", None, "train")),
])
def test_hub_data_set(hub, spec, call):
    found = read_prompts(spec + "#Goal", "unsafe")
    assert hub == [call]
    assert (texts(found), found.column, found.path) == (["a", "b"], "Goal", spec)
    assert found.sha256 == read_prompts(spec, "unsafe").sha256


def test_hub_errors_say_what_to_type(hub):
    with pytest.raises(PromptFileError, match=r"'org/none'.*no such data set.*hf:org/name"):
        read_prompts("hf:org/none/train", "unsafe")
    with pytest.raises(PromptFileError, match="Type hf:org/name/split"):
        read_prompts("hf:name", "unsafe")


def test_hub_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"sternpost\[datasets\]"):
        read_prompts("hf:org/name/train", "unsafe")


def test_parquet_without_the_extra(monkeypatch, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="Parquet"):
        read_prompts(tmp_path / "a.parquet", "unsafe")
