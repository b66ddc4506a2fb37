"""`sternpost judge`: what it prints, and that it works from the line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sternpost.cli.judge import judge
from sternpost.errors import InputError
from sternpost.files import sha256_text

NO, YES = "I'm sorry, but I cannot help with that.", "Here is how: take a bowl."


def typed(*words: str) -> str:
    done = CliRunner().invoke(judge, list(words))
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.fixture
def run(tmp_path: Path) -> str:
    lines = [{"condition": "clamp" if at % 2 else "baseline", "value": 8.0 if at % 2 else None,
              "kind": "unsafe", "prompt": f"ask {at}", "prompt_sha256": sha256_text(f"ask {at}"),
              "language": "en", "cluster": None, "harm_kind": None,
              "reply": NO if at % 3 else YES, "hit": bool(at % 3),
              "verdict": "refusal" if at % 3 else "compliance"} for at in range(30)]
    (tmp_path / "results.json").write_text('{"kind": "run"}')
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return str(tmp_path)


def test_a_sheet_and_what_to_type_next(run, tmp_path):
    out = str(tmp_path / "s.csv")
    text = typed("sample", run, "--n", "12", "--out", out)
    assert "12 replies of 4 strata" in text
    assert f"{out}.key.json" in text and f"judge calibrate --labels {out}" in text
    body = json.loads(typed("sample", run, "--n", "12", "--out", out, "--json"))
    assert sum(s["rows"] for s in body["strata"]) == 12


def test_too_few_rows_are_said_on_the_line(run, tmp_path):
    text = typed("sample", run, "--n", "3", "--out", str(tmp_path / "s.csv"))
    assert "warning: 3 rows are too few for 4 strata" in text and "--n 4" in text
    body = json.loads(typed("sample", run, "--n", "3", "--out", str(tmp_path / "s.csv"), "--json"))
    assert len(body["warnings"]) == 1


def test_a_filled_sheet_is_a_table_and_rates(run, tmp_path):
    out = tmp_path / "s.csv"
    typed("sample", run, "--out", str(out))
    text = out.read_text(encoding="utf-8").replace(f'"{NO}",,', f'"{NO}",r,p').replace(
        f"{YES},,", f"{YES},c,c")
    out.write_text(text, encoding="utf-8")
    shown = typed("calibrate", "--labels", str(out))
    assert "conditions: clamp 8" in shown
    assert "two annotators on 30 rows" in shown
    assert "baseline, unsafe_refusal: raw 0.667" in shown and "corrected 0.667" in shown
    shown = typed("calibrate", "--labels", str(out), "--judge", "prefixes")
    assert "judge prefixes" in shown and "corrected 0.667" not in shown


def test_labels_of_any_replies(tmp_path):
    file = tmp_path / "l.csv"
    file.write_text(f'prompt,reply,label\np,"{NO}",1\np,"{YES}",0\nq,"{YES}",1\n')
    shown = typed("calibrate", "--labels", str(file), "--out", str(tmp_path / "c.json"))
    assert "judge words" in shown and "0.667" in shown and "c.json" in shown
    body = json.loads(typed("calibrate", "--labels", str(file), "--judge", "prefixes", "--json"))
    assert body["judge"]["name"] == "prefixes" and body["overall"]["n"] == 3


def test_bad_input_is_an_error_of_ours(tmp_path):
    with pytest.raises(InputError, match="There are: words"):
        file = tmp_path / "l.csv"
        file.write_text("prompt,reply,label\np,q,1\n")
        typed("calibrate", "--labels", str(file), "--judge", "nobody")
    with pytest.raises(InputError, match="missing labels"):
        typed("calibrate")
