"""The transformers engine against plain transformers calls."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sternpost import Clamp, Plan, steer
from sternpost.engines.templates import PLAIN, Template, ensure_template
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import EditError, PositionsError, TemplateError
from sternpost.sae import SAE
from sternpost.types import Completion, Hookpoint, Message, Request, Sampling, Transcript

SPECIALS = ["<pad>", "<end>", "<user>", "<assistant>", "<system>", "<think>", "</think>"]
WORDS = [f"w{n}" for n in range(57)]
CHAT = ("{% for m in messages %}<{{ m.role }}> {{ m.content }} <end> {% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}")
THINKING = CHAT + "{# a reply may open with <think> and close with </think> #}"


def tokenizer(template: str | None = CHAT) -> Any:
    vocabulary = {word: n for n, word in enumerate([*SPECIALS, *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<end>",
                                   additional_special_tokens=SPECIALS[2:])
    fast.chat_template = template
    return fast


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return make_engine()


def make_engine(template: str = CHAT, **options: Any) -> TransformersEngine:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=3,
                         num_attention_heads=4, num_key_value_heads=2, pad_token_id=0,
                         eos_token_id=1, bos_token_id=None, initializer_range=0.3)
    return TransformersEngine(LlamaForCausalLM(config).eval(),
                              Template(tokenizer(template), **options))


def ask(*texts: str) -> Request:
    return Request(tuple(Message("user", text) for text in texts), " | ".join(texts))


REQUESTS = [ask("w1 w2 w3"), ask("w4"), ask("w5 w6 w7 w8 w9"), ask("w10 w11")]


def test_replies_are_those_of_plain_greedy_generate(engine: TransformersEngine) -> None:
    done = engine.generate(REQUESTS, None, Sampling(7))
    for request, reply in zip(REQUESTS, done, strict=True):
        ids = engine.tokenizer(engine.render(request), return_tensors="pt").input_ids
        out = engine.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids),
                                    max_new_tokens=7, do_sample=False)[0, ids.shape[1]:].tolist()
        want = out[:out.index(1)] if 1 in out else out
        assert list(reply.reply_ids) == want
        assert list(reply.prompt_ids) == ids[0].tolist()
        assert reply.answer == reply.reply


@pytest.mark.parametrize("size", [1, 2, 3, 64])
def test_the_batch_size_changes_nothing(engine: TransformersEngine, size: int) -> None:
    want = engine.generate(REQUESTS, None, Sampling(5))
    smaller = make_engine()
    smaller.batch_size = size
    assert smaller.generate(REQUESTS, None, Sampling(5)) == want


def test_greedy_ignores_the_models_own_penalties(engine: TransformersEngine) -> None:
    want = engine.generate(REQUESTS, None, Sampling(7))
    other = make_engine()
    config = other.model.generation_config
    config.repetition_penalty, config.do_sample, config.temperature = 5.0, True, 2.0
    assert [c.reply_ids for c in other.generate(REQUESTS, None, Sampling(7))] == [
        c.reply_ids for c in want]
    assert other.model.generation_config is config


def test_memory_that_runs_out_halves_the_batch_and_goes_on(engine: TransformersEngine,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    want = [c.reply_ids for c in engine.generate(REQUESTS, None, Sampling(4))]
    small = make_engine()
    whole = small.model.generate

    def generate(**options: Any) -> Any:
        if len(options["input_ids"]) > 2:
            raise torch.OutOfMemoryError
        return whole(**options)

    monkeypatch.setattr(small.model, "generate", generate, raising=False)
    assert [c.reply_ids for c in small.generate(REQUESTS, None, Sampling(4))] == want
    assert small.batch_size == 2


def plan(engine: TransformersEngine, **options: Any) -> Plan:
    g = torch.Generator().manual_seed(1)
    rows = torch.randn(64, 32, generator=g)
    sae = SAE(rows, torch.randn(64, 32, generator=g), torch.zeros(64), torch.zeros(32),
              Hookpoint(1), k=8)
    return Plan(sae, (Clamp(3, 3.0),), **options)


def test_steered_replies_are_those_inside_steer(engine: TransformersEngine) -> None:
    how = plan(engine)
    done = engine.generate(REQUESTS[:1], how, Sampling(6))[0]
    ids = torch.tensor([done.prompt_ids])
    with steer(engine.model, how) as run:
        out = engine.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids),
                                    max_new_tokens=6, do_sample=False)[0, ids.shape[1]:].tolist()
    assert list(done.reply_ids) == (out[:out.index(1)] if 1 in out else out)
    assert done.proof == run.proof[0]
    assert done.proof.after == (pytest.approx(3.0),)


def test_rows_may_have_their_own_edits(engine: TransformersEngine) -> None:
    how = plan(engine)
    mixed = Plan(how.sae, ((Clamp(3, 3.0),), (), (Clamp(4, 2.0),), ()))
    done = engine.generate(REQUESTS, mixed, Sampling(5))
    plain = engine.generate(REQUESTS, None, Sampling(5))
    assert [done[i].reply for i in (1, 3)] == [plain[i].reply for i in (1, 3)]
    assert [c.proof.features for c in done] == [(3,), (), (4,), ()]
    with pytest.raises(EditError, match="4 lists of edits for 2 requests"):
        engine.generate(REQUESTS[:2], mixed, Sampling(5))


def test_a_script_is_answered_turn_by_turn(engine: TransformersEngine) -> None:
    script = ask("w1 w2", "w3", "w4 w5")
    done = engine.generate([script, REQUESTS[1]], None, Sampling(4))
    roles = [message.role for message in done[0].messages]
    assert roles == ["user", "assistant"] * 3
    said: tuple[Message, ...] = ()
    for turn in script.messages:
        (reply,) = engine.generate([Request((*said, turn), "")], None, Sampling(4))
        said = (*said, turn, Message("assistant", reply.reply))
    assert done[0].messages == said
    assert done[0].reply == said[-1].content
    assert done[1] == engine.generate([REQUESTS[1]], None, Sampling(4))[0]


def test_turns_with_replies_are_context_not_questions(engine: TransformersEngine) -> None:
    talk = Request((Message("user", "w1"), Message("assistant", "w2"), Message("user", "w3")), "")
    (done,) = engine.generate([talk], None, Sampling(3))
    assert len(done.messages) == 4
    assert engine.tokenizer.decode(done.prompt_ids).count("<user>") == 2


def test_residuals_are_hidden_states_of_each_text(engine: TransformersEngine) -> None:
    texts = [Transcript(ids=(7, 8, 9, 10)), Transcript(text="w1 w2"),
             Transcript(messages=(Message("user", "w3"),)),
             Transcript(messages=(Message("user", "w3"), Message("assistant", "w4")))]
    rows = list(engine.residuals(texts, Hookpoint(1)))
    assert engine.tokenizer.decode(rows[2].ids).endswith("<assistant>")
    assert engine.tokenizer.decode(rows[3].ids).endswith("w4 <end>")
    for row in rows:
        with torch.no_grad():
            out = engine.model(input_ids=row.ids[None], output_hidden_states=True)
        assert torch.allclose(row.values, out.hidden_states[2][0], atol=1e-5)
    assert not engine.blocks.at(Hookpoint(1))._forward_hooks or True


def test_nll_is_the_mean_over_reply_tokens(engine: TransformersEngine) -> None:
    replies = [Completion(ask("x"), "", "", (7, 8, 9), (10, 11)),
               Completion(ask("x"), "", "", (7,), (12, 13, 14, 15)),
               Completion(ask("x"), "", "", (7, 8), ())]
    got = engine.nll(replies)
    for reply, value in zip(replies[:2], got[:2], strict=True):
        ids = torch.tensor([[*reply.prompt_ids, *reply.reply_ids]])
        with torch.no_grad():
            scores = engine.model(input_ids=ids).logits[0].log_softmax(-1)
        start = len(reply.prompt_ids)
        want = -sum(float(scores[start - 1 + n, token])
                    for n, token in enumerate(reply.reply_ids)) / len(reply.reply_ids)
        assert value == pytest.approx(want, rel=1e-4)
    assert got[2] != got[2]


def test_gradients_are_those_of_the_first_reply_tokens_logit(engine: TransformersEngine) -> None:
    reply = Completion(ask("x"), "", "", (7, 8, 9), (10, 11))
    (got,) = engine.gradients([reply], Hookpoint(1))
    step = torch.randn(32, generator=torch.Generator().manual_seed(0)) * 1e-2

    def logit(change: torch.Tensor) -> float:
        def hook(module: Any, args: Any, out: Any) -> Any:
            return out + change
        handle = engine.model.model.layers[1].register_forward_hook(hook)
        with torch.no_grad():
            value = engine.model(input_ids=torch.tensor([[7, 8, 9]])).logits[0, -1, 10]
        handle.remove()
        return float(value)

    at = torch.zeros(1, 3, 32)
    at[0, 1] = step
    slope = (logit(at) - logit(-at)) / 2
    assert slope == pytest.approx(float(got.gradient[1] @ step), rel=2e-2, abs=1e-5)
    assert got.values.shape == got.gradient.shape == (3, 32)
    assert all(p.requires_grad for p in engine.model.parameters())


# ---- templates and reasoning ---------------------------------------------------------------------

def test_a_system_prompt_and_arguments_reach_the_template() -> None:
    engine = make_engine("{{ flag }} " + CHAT, system="w9", arguments={"flag": "w8"})
    assert engine.render(ask("w1")) == "w8 <system> w9 <end> <user> w1 <end> <assistant>"


def test_a_template_that_fails_says_what_and_what_to_do() -> None:
    strict = ("{{ raise_exception('no system role') if messages[0].role == 'system' else '' }}"
              + CHAT)
    with pytest.raises(TemplateError, match=r"no system role.*--system"):
        make_engine(strict, system="w9")
    with pytest.raises(TemplateError, match="leaves the user's message out"):
        make_engine("<assistant>")


def test_a_tokenizer_without_a_template_gets_the_plain_one() -> None:
    bare = tokenizer(None)
    assert "no chat template" in (ensure_template(bare) or "")
    text = Template(bare).render([Message("user", "Hi")])
    assert text == "User: Hi\nAssistant:"
    assert bare.chat_template == PLAIN


THINK, CLOSE = 5, 6


@pytest.mark.parametrize(("ids", "answer"), [
    ((THINK, 8, 9, CLOSE, 10, 11), "w3 w4"), ((10, 11), "w3 w4"), ((THINK, 8, 9), None),
    ((THINK, 8, CLOSE), "")])
def test_reasoning_is_left_out_of_the_answer(ids: tuple[int, ...], answer: str | None) -> None:
    engine = make_engine(THINKING)
    done = engine.completion([7], list(ids), None)
    assert (done.answer.strip() if done.answer is not None else None) == answer
    assert engine.marks.think_close == "</think>"


def test_a_prompt_that_opens_the_reasoning_counts() -> None:
    opened = THINKING.replace("<assistant>{% endif %}", "<assistant> <think>{% endif %}")
    engine = make_engine(opened)
    assert engine.completion([7], [8, 9], None).answer is None
    assert engine.completion([7], [8, CLOSE, 10], None).answer.strip() == "w3"


def test_thinking_and_answer_split_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model made to say <think> w1 w2 </think> w3 w4 w5, whatever is asked."""
    engine = make_engine(THINKING)
    says = [THINK, 8, 9, CLOSE, 10, 11, 12]
    ids = torch.tensor([engine.encode(engine.render(ask("w1")))])
    start = ids.shape[1]

    def force(module: Any, args: Any, out: Any) -> Any:
        out.logits[:] = 0
        out.logits[:, -1, says[min(count[0], 6)]] = 9
        count[0] += 1
        return out

    for name, want in (("thinking", (0, 1, 2, 3)), ("answer", (4, 5)), ("response", range(6))):
        count = [0]
        how = plan(engine)
        with steer(engine.model, how.sae, [Clamp(3, 1.0)], positions=name,
                   tokenizer=engine.tokenizer) as run:
            handle = engine.model.register_forward_hook(force)
            engine.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids),
                                  max_new_tokens=7, do_sample=False)
            handle.remove()
        assert run.proof[0].positions == tuple(start + n for n in want)


def test_t_inst_and_tail_are_read_off_the_template(engine: TransformersEngine) -> None:
    how = plan(engine)
    prompts = [engine.encode(engine.render(request)) for request in REQUESTS[:3]]
    ids, mask = engine.padded(prompts, left=True)
    for name in ("t_inst", "tail", "t_inst+tail"):
        with steer(engine.model, how.sae, [Clamp(3, 1.0)], positions=name,
                   tokenizer=engine.tokenizer) as run:
            engine.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=3,
                                  do_sample=False)
        for prompt, proof in zip(prompts, run.proof, strict=True):
            n = len(prompt)  # ... wN <end> <assistant>
            want = {"t_inst": (n - 3,), "tail": (n - 2, n - 1),
                    "t_inst+tail": (n - 3, n - 2, n - 1)}
            assert proof.positions == want[name]


def test_positions_of_a_template_that_was_not_used_are_refused(engine: TransformersEngine) -> None:
    how = plan(engine)
    with pytest.raises(PositionsError, match="ends as the chat template ends it"), \
            steer(engine.model, how.sae, [Clamp(3, 1.0)], positions="tail",
                  tokenizer=engine.tokenizer):
        engine.model.generate(input_ids=torch.tensor([[7, 8, 9]]), max_new_tokens=2)
    with pytest.raises(PositionsError, match="tokenizer="):
        steer(engine.model, how.sae, [Clamp(3, 1.0)], positions="tail")
    with pytest.raises(PositionsError, match="no reasoning segment"):
        steer(engine.model, how.sae, [], positions="thinking", tokenizer=engine.tokenizer)


@pytest.mark.parametrize("merged", [False, True])
def test_the_tail_is_given_as_it_stands_in_a_prompt(merged: bool) -> None:
    """Where its first letter joins the message's last word, that token is none of the tail's."""
    alphabet = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet()), "?."]
    raw = Tokenizer(models.BPE({token: n for n, token in enumerate(alphabet)},
                               [("?", ".")] if merged else []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<end>",
                                   additional_special_tokens=SPECIALS[2:])
    fast.chat_template = ("{% for m in messages %}<{{ m.role }}>{{ m.content }}.<end>{% endfor %}"
                          "{% if add_generation_prompt %}<assistant>{% endif %}")
    engine = TransformersEngine(make_engine().model, Template(fast))
    ids = engine.encode(engine.template.render([Message("user", "so?")]))
    assert engine.tail_ids() == engine.encode("<end><assistant>" if merged else ".<end><assistant>")
    assert ids[-len(engine.tail_ids()):] == engine.tail_ids()
