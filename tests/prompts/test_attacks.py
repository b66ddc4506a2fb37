import pytest

from sternpost.errors import InputError
from sternpost.prompts import build_ups, families, held_out, wrapped
from sternpost.types import LabelledPrompt, Message, Request


def prompt(text, **labels):
    return LabelledPrompt(Request((Message("user", text),), text), "unsafe", **labels)


PLAIN = [prompt(f"Tell me of rope number {i}") for i in range(20)]
ROWS = [*PLAIN, *wrapped(PLAIN, each=2), *build_ups(PLAIN)]


@pytest.mark.parametrize("names", [["role_play"], ["obfuscation", "story"], ["build_up"],
                                   ["build_up:news", "many_shot"]])
def test_whole_families_are_held_out(names):
    parts = held_out(ROWS, names)
    assert parts.held and parts.rest
    assert [row for row in ROWS if row in parts.held] == list(parts.held)
    assert [row for row in ROWS if row in parts.rest] == list(parts.rest)
    assert len(parts.held) + len(parts.rest) == len(ROWS)
    for row in parts.held:
        assert row.family.split(":")[0] in names or row.family in names
    for row in parts.rest:
        assert row.family is None or (row.family.split(":")[0] not in names
                                      and row.family not in names)


def test_every_family_can_be_held_out_by_itself():
    for name in families():
        parts = held_out(ROWS, [name])
        assert {row.family for row in parts.held} == {name}
        assert name not in {row.family for row in parts.rest}


def test_a_family_that_no_row_has_holds_nothing_out_and_is_refused():
    with pytest.raises(InputError, match=r"family role_paly, .*authority, build_up, build_up:"):
        held_out(ROWS, ["role_paly", "story"])
    with pytest.raises(InputError, match=r"families: none\."):
        held_out(PLAIN, ["story"])
