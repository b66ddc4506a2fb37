"""What a pack keeps of how it was made: the judge's limit, the template and its arguments."""

from pathlib import Path

import pytest
import torch

import sternpost
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import PackError, TemplateError
from sternpost.judges import WordListJudge
from sternpost.packs.make import check_turns, judge_body, pack_body
from sternpost.packs.pack import Pack, template_of
from sternpost.sae import SAE
from sternpost.store import PackFiles
from sternpost.trials.run_settings import RunSettings
from sternpost.types import Hookpoint

TEMPLATE = ("{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ mark }}{% endfor %}"
            "{% if add_generation_prompt %}<assistant>{% endif %}")


def test_the_judges_limit_is_kept_and_where_there_is_none_it_is_said() -> None:
    told = judge_body(WordListJudge(lambda replies: [1.0] * len(replies), 2.5))
    assert (told["name"], told["nll_limit"]) == ("words", 2.5)
    assert "why" not in told
    bare = judge_body(WordListJudge())
    assert bare["nll_limit"] is None
    assert bare["why"]["nll_limit"]


def test_a_pack_is_spoken_to_as_it_was(tiny_models: dict[str, str], tmp_path: Path) -> None:
    model, tokenizer = sternpost.load_model(tiny_models["llama"])
    (tmp_path / "mine.jinja").write_text(TEMPLATE)
    sae = SAE(torch.eye(32), torch.eye(32), torch.zeros(32), torch.zeros(32), Hookpoint(1), k=4)
    settings = RunSettings(model=tiny_models["llama"], unsafe="", safe="", out="", system="Hm.",
                           chat_template=str(tmp_path / "mine.jinja"),
                           chat_template_kwargs='{"mark": "!"}')
    body = pack_body(TransformersEngine(model, Template(tokenizer)), sae, settings)
    assert (body["chat_template"], body["chat_template_kwargs"]) == (TEMPLATE, {"mark": "!"})
    assert body["model"]["revision"] is None
    own = tokenizer.chat_template
    engine = TransformersEngine(model, template_of(Pack(files(body), tmp_path), tokenizer))
    ask = sternpost.types.Request((sternpost.types.Message("user", "hi"),), "hi")
    assert engine.render(ask) == "<system>Hm.!<user>hi!<assistant>"
    assert tokenizer.chat_template == own
    plain = {k: v for k, v in body.items() if not k.startswith("chat_template")}  # an older pack
    engine = TransformersEngine(model, template_of(Pack(files(plain), tmp_path), tokenizer))
    assert "Hm." in engine.render(ask)


def files(body: dict[str, object]) -> PackFiles:
    return PackFiles(body, None, None, [], {}, {}, "")


def test_golden_prompts_are_asked_in_the_packs_own_template(
        tiny_models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another type a pack proves itself, spoken to as it was measured."""
    model, _ = sternpost.load_model(tiny_models["llama"], dtype="bfloat16")
    seen: list[str] = []

    class Stop(Exception):
        pass

    def look(self: TransformersEngine, requests: list[sternpost.types.Request], *_: object) -> None:
        seen.append(self.render(requests[0]))
        raise Stop

    sae = SAE(torch.eye(32), torch.eye(32), torch.zeros(32), torch.zeros(32), Hookpoint(1), k=4)
    kept = pack_body(TransformersEngine(*both(tiny_models["llama"])), sae, RunSettings(
        model=tiny_models["llama"], unsafe="", safe="", out=""))
    level = {"edits": [], "positions": "all", "mode": "threshold", "error": "keep"}
    golden = [{"prompt": "hi", "messages": [{"role": "user", "content": "hi"}], "verdicts": {}}]
    whole = PackFiles({**kept, "chat_template": TEMPLATE, "chat_template_kwargs": {"mark": "?"},
                       "levels": {"off": level}}, sae, None, golden, {}, {}, "", "abc", tmp_path)
    monkeypatch.setattr(TransformersEngine, "generate", look)
    with pytest.raises(Stop), sternpost.steer(model, Pack(whole, tmp_path).at("off")):
        pass
    assert seen == ["<user>hi?<assistant>"]
    with pytest.raises(PackError, match="no golden prompts to prove it in bfloat16"):
        without = PackFiles(whole.body, sae, None, [], {}, {}, "", "abc", tmp_path)
        sternpost.steer(model, Pack(without, tmp_path).at("off"))


def both(name: str) -> tuple[object, Template]:
    model, tokenizer = sternpost.load_model(name)
    return model, Template(tokenizer)


def test_a_decay_needs_a_template_whose_turns_the_tails_tokens_find(
        tiny_models: dict[str, str]) -> None:
    model, template = both(tiny_models["llama"])
    check_turns(TransformersEngine(model, template))
    template.tokenizer.chat_template = TEMPLATE_THAT_THINKS
    with pytest.raises(TemplateError, match="otherwise than the last one"):
        check_turns(TransformersEngine(model, template))


TEMPLATE_THAT_THINKS = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> <think></think>{% endif %}")
