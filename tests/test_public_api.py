"""What people may rely on: names, signatures, help."""

import inspect
from dataclasses import MISSING, fields
from typing import Any

import pytest

import sternpost
from sternpost import errors
from sternpost.trials.run_settings import RunSettings
from sternpost.trials.settings import arranged


def test_all_is_sorted_and_importable() -> None:
    assert sternpost.__all__ == sorted(sternpost.__all__)
    for name in sternpost.__all__:
        assert getattr(sternpost, name) is not None
    assert set(sternpost.__all__) <= set(dir(sternpost))
    with pytest.raises(AttributeError, match="'tiller'"):
        _ = sternpost.tiller


def test_the_contracts_names_are_there() -> None:
    wanted = {"load_model", "load_sae", "steer", "run", "chat", "doctor", "Clamp", "Floor",
              "Ceiling", "Scale", "Ablate", "Add", "Plan", "Positions", "SternpostError"}
    assert wanted <= set(sternpost.__all__)


def test_public_functions_and_classes_say_what_they_give() -> None:
    for name in sternpost.__all__:
        assert inspect.getdoc(getattr(sternpost, name)), name


def test_run_takes_what_its_settings_are() -> None:
    found = inspect.signature(sternpost.run).parameters
    assert list(found) == [spec.name for spec in arranged(RunSettings)]
    for spec in fields(RunSettings):
        parameter = found[spec.name]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        want = inspect.Parameter.empty if spec.default is MISSING else spec.default
        assert parameter.default == want


def test_every_setting_has_help_and_the_contracts_options_are_there() -> None:
    names = [spec.name for spec in fields(RunSettings)]
    assert all(spec.metadata["help"].endswith((".", ")")) for spec in fields(RunSettings))
    line = ("model unsafe safe capability layer corpus archetype sae d_sae k tokens feature values "
            "positions error mode no_gate limit batch_size max_new_tokens system chat_template "
            "chat_template_kwargs device dtype revision seed dry_run resume force out search_value")
    assert sorted(names) == sorted(line.split())


@pytest.mark.parametrize("verb", ["chat", "doctor"])
def test_verbs_take_the_same_names_as_their_options(verb: str) -> None:
    from sternpost.cli import group

    function = inspect.signature(getattr(sternpost, verb)).parameters
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in function.values())
    options = {option.name for option in group.commands[verb].params}
    assert options - {"as_json", "debug"} == set(function)


def test_run_refuses_what_it_does_not_know() -> None:
    whole: dict[str, Any] = {"model": "m", "unsafe": "u", "safe": "s", "out": "o"}
    with pytest.raises(sternpost.SternpostError, match="unknown setting 'speed'"):
        sternpost.run(**whole, speed=3)
    with pytest.raises(sternpost.SternpostError, match="missing model, unsafe"):
        sternpost.run(safe="s", out="o")
    with pytest.raises(sternpost.SternpostError, match="seed is a whole number"):
        sternpost.run(**whole, seed="1")


def test_every_error_is_a_sternpost_error_and_drawn_in_the_tree() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)
             if issubclass(kind, Exception) and kind.__module__ == errors.__name__]
    assert len(kinds) > 10
    for kind in kinds:
        assert issubclass(kind, sternpost.SternpostError)
        assert kind.__name__ in (errors.__doc__ or "")
        assert kind.__doc__
