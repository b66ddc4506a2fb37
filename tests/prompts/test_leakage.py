import json

import pytest

from sternpost.errors import InputError, LeakageError
from sternpost.prompts import check_disjoint, split_prompts
from sternpost.types import Kind, LabelledPrompt, Message, Request


def prompt(text, kind: Kind = "unsafe", **labels):
    return LabelledPrompt(Request((Message("user", text),), text), kind, **labels)


UNSAFE = [prompt(f"unsafe {i} say unsafe {i}", cluster=f"k{i}" if i % 2 else None)
          for i in range(80)]
SAFE = [prompt(f"safe {i} say safe {i}", "safe") for i in range(80)]
SPLITS = split_prompts(UNSAFE, SAFE)
BODY = json.loads(json.dumps(SPLITS.as_dict(train=[prompt("sail the ship home")])))
LOOSE = next(p for p in SPLITS.gate_fit if p.cluster is None)
TIED = next(p for p in SPLITS.search if p.cluster is not None)


def test_the_test_split_and_new_prompts_pass():
    check_disjoint(BODY, SPLITS.test)
    check_disjoint(BODY, [prompt("quite another thing"), prompt("x"), prompt("short one")])
    check_disjoint(BODY, [])


@pytest.mark.parametrize("part", ["search", "gate_fit", "gate_calibration"])
def test_every_fitted_prompt_is_found(part):
    prompts = getattr(SPLITS, part)
    with pytest.raises(LeakageError, match=rf"{len(prompts)} of .*{len(prompts)} in {part}"):
        check_disjoint(BODY, [*prompts, *SPLITS.test])


@pytest.mark.parametrize(("evaluated", "split"), [
    (prompt(LOOSE.request.text.upper() + " !"), "gate_fit"),
    (prompt(LOOSE.request.text.replace("say", "sing")), "gate_fit"),
    (prompt(TIED.request.text.upper()), "search"),
    (prompt("something else", cluster=TIED.cluster), "search"),
    (prompt("Sail the ship home!"), "train"),
    (prompt("sail the boat home"), "train"),
])
def test_near_duplicates_are_found(evaluated, split):
    with pytest.raises(LeakageError, match=f"1 of 2 .*1 in {split}"):
        check_disjoint(BODY, [prompt("fine and new"), evaluated])


@pytest.mark.parametrize("evaluated", [
    prompt(TIED.request.text.replace("say", "sing")),  # clustered rows have no one-word rule
    prompt(LOOSE.request.text.replace("say", "sing"), cluster="new"),
    prompt(LOOSE.request.text + " please"),
])
def test_what_is_no_near_duplicate_passes(evaluated):
    check_disjoint(BODY, [evaluated])


def test_train_known_by_hash_alone():
    body = SPLITS.as_dict(train=[prompt("sail home").request.sha256])
    check_disjoint(body, [prompt("Sail home!")])
    with pytest.raises(LeakageError, match="in train"):
        check_disjoint(body, [prompt("sail home")])


@pytest.mark.parametrize("missing", ["train", "search", "near"])
def test_another_file_is_refused(missing):
    with pytest.raises(InputError, match=f"no splits.json.*{missing}"):
        check_disjoint({k: v for k, v in BODY.items() if k != missing}, SPLITS.test)
