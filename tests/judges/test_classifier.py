"""P(harm) by a sequence-classification model: which labels, which text, how much of it."""

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from conftest import SAFE_WORDS, UNSAFE_WORDS, some_prompts, word_tokenizer
from sternpost.errors import InputError
from sternpost.judges.classifier import Limits, Reads, TextClassifier, text_of, turns_of
from sternpost.types import Message, PromptClassifier, Request

SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                         "num_attention_heads": 4, "max_position_embeddings": 64,
                         "pad_token_id": 0, "hidden_dropout_prob": 0.0,
                         "attention_probs_dropout_prob": 0.0}
WORDS = word_tokenizer()


def ask(text: str) -> Request:
    return Request((Message("user", text),), text)


def talk(*turns: tuple[str, str]) -> Request:
    return Request(tuple(Message(role, content) for role, content in turns), "canonical json")


def bert(labels: Sequence[str], **more: Any) -> Any:
    """A random one."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(WORDS), **{
        **SMALL, "id2label": dict(enumerate(labels)), **more})
    return BertForSequenceClassification(config).eval()


def trained(labels: Sequence[str], harmful: int) -> Any:
    """One that has learned which words are planted in unsafe prompts, as label `harmful`."""
    model, rng = bert(labels), random.Random(1)
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        rows = some_prompts(rng.randrange(10 ** 6), 16, ("plain", "safe"))
        asked = WORDS([row["prompt"] for row in rows], padding=True, return_tensors="pt")
        labels_ = torch.tensor([harmful if r["category"] == "plain" else 1 - harmful for r in rows])
        loss = model.train()(input_ids=asked["input_ids"], attention_mask=asked["attention_mask"],
                             labels=labels_).loss
        adam.zero_grad()
        loss.backward()
        adam.step()
    return model.eval()


@pytest.fixture(scope="module")
def planted() -> Any:
    return trained(("safe", "unsafe"), harmful=1)


FRESH = some_prompts(77, 100, ("plain", "safe"))
REQUESTS = [ask(row["prompt"]) for row in FRESH]


# ---- what it says --------------------------------------------------------------------------------

def test_it_tells_planted_words_apart_on_prompts_it_has_not_seen(planted):
    classifier: PromptClassifier = TextClassifier(planted, WORDS, name="folder/x")
    harm = classifier(REQUESTS)
    assert min(h for h, row in zip(harm, FRESH, strict=True) if row["category"] == "plain") > 0.9
    assert max(h for h, row in zip(harm, FRESH, strict=True) if row["category"] == "safe") < 0.1
    assert classifier.name == "folder/x"


def test_labels_are_told_by_their_names_not_their_places():
    other = TextClassifier(trained(("unsafe", "safe"), harmful=0), WORDS)
    assert [h > 0.5 for h in other(REQUESTS)] == [row["category"] == "plain" for row in FRESH]


def test_naming_the_other_label_turns_it_round(planted):
    harm = TextClassifier(planted, WORDS)(REQUESTS)
    turned = TextClassifier(planted, WORDS, ("safe",))(REQUESTS)
    assert turned == pytest.approx([1 - h for h in harm], abs=1e-9)


def naive(model: Any, text: str) -> torch.Tensor:
    with torch.no_grad():
        return model(**WORDS(text, return_tensors="pt", return_token_type_ids=False)).logits[0]


def test_softmax_sums_the_harmful_labels():
    model = bert(("benign", "injection", "jailbreak"))
    harm = TextClassifier(model, WORDS, ("injection", "jailbreak"))(REQUESTS[:5])
    for h, request in zip(harm, REQUESTS, strict=False):
        assert h == pytest.approx(naive(model, request.text).softmax(-1)[1:].sum().item(), abs=1e-6)


@pytest.mark.parametrize(("labels", "kind", "scores"), [
    (("toxic", "insult", "fine"), "multi_label_classification", None),
    (("toxic", "insult", "fine"), None, "sigmoid"), (("toxic",), None, "sigmoid"),
    (("toxic",), "multi_label_classification", None)])
def test_sigmoid_takes_the_worst_of_the_harmful_labels(labels, kind, scores):
    model = bert(labels, problem_type=kind)
    named = tuple(label for label in labels if label != "fine")
    harm = TextClassifier(model, WORDS, named, scores=scores)(REQUESTS[:5])
    for h, request in zip(harm, REQUESTS, strict=False):
        logits = naive(model, request.text)[:len(named)]
        assert h == pytest.approx(logits.sigmoid().max().item(), abs=1e-6)


@pytest.mark.parametrize(("labels", "kind"), [(("toxic",), None), (("toxic",), "regression"),
                                              (("a", "toxic"), "regression")])
def test_scores_that_are_no_probabilities_are_refused(labels, kind):
    with pytest.raises(InputError, match="scores='sigmoid'"):
        TextClassifier(bert(labels, problem_type=kind), WORDS)


def test_a_model_that_gives_no_number_is_not_safe():
    model = bert(("safe", "unsafe"))
    torch.nn.init.constant_(model.classifier.bias, math.nan)
    classifier = TextClassifier(model, WORDS)
    assert all(math.isnan(h) for h in classifier(REQUESTS[:3]))
    assert classifier.counts == Reads(asked=3, unparsed=3)


# ---- which labels --------------------------------------------------------------------------------

@pytest.mark.parametrize(("labels", "harmful"), [
    (("safe", "unsafe"), "unsafe"), (("UNSAFE", "SAFE"), "UNSAFE"), (("LABEL_SAFE", "jailbreak"),
                                                                     "jailbreak"),
    (("harmless", "harmful"), "harmful"), (("not_toxic", "toxic"), "toxic"),
    (("unharmful", "harmful"), "harmful"), (("Non-Malicious", "Malicious!"), "Malicious!")])
def test_the_harmful_label_is_guessed_where_one_says_so(labels, harmful):
    assert TextClassifier(bert(labels), WORDS).unsafe_labels == (harmful,)


@pytest.mark.parametrize(("labels", "said"), [
    (("LABEL_0", "LABEL_1"), "None of its labels says so.*LABEL_0, LABEL_1"),
    (("BENIGN", "INJECTION", "JAILBREAK"), "2 of its labels sound so.*BENIGN, INJECTION, JAIL"),
    (("not_harmful", "non-toxic"), "None")])
def test_where_the_guess_is_not_one_label_all_are_listed(labels, said):
    with pytest.raises(InputError, match=said):
        TextClassifier(bert(labels), WORDS)


def test_labels_that_cannot_be_meant():
    with pytest.raises(InputError, match=r"no label 'Unsafe'\. .*: safe, unsafe\."):
        TextClassifier(bert(("safe", "unsafe")), WORDS, ("Unsafe",))
    with pytest.raises(InputError, match="All of the classifier's labels"):
        TextClassifier(bert(("safe", "unsafe")), WORDS, ("safe", "unsafe"))


# ---- which text ----------------------------------------------------------------------------------

def test_a_conversation_is_its_turns_up_to_the_users_last():
    request = talk(("system", "be kind"), ("assistant", "hello"), ("user", "one"),
                   ("system", "be brief"), ("user", "two"), ("assistant", "yes"),
                   ("user", "three"), ("assistant", "after"))
    assert turns_of(request) == [Message("user", "one\n\ntwo"), Message("assistant", "yes"),
                                 Message("user", "three")]
    assert text_of(request) == "one\n\ntwo\n\nyes\n\nthree"
    assert text_of(Request((), "bare")) == "bare"
    assert text_of(ask("  as it is ")) == "  as it is "


def test_harm_in_any_turn_of_a_script_counts_and_the_systems_words_do_not(planted):
    bad, good = " ".join(UNSAFE_WORDS[:4]), " ".join(SAFE_WORDS[:2])
    harm = TextClassifier(planted, WORDS)([
        talk(("user", bad), ("user", good)), talk(("user", good), ("user", bad)),
        talk(("system", bad), ("user", good)), talk(("user", good), ("user", good))])
    assert [h > 0.5 for h in harm] == [True, True, False, False]


def test_special_tokens_that_a_prompt_spells_out_are_text():
    model, seen = bert(("safe", "unsafe")), []
    model.register_forward_pre_hook(lambda model, args, asked: seen.extend(asked["input_ids"][0]),
                                    with_kwargs=True)
    TextClassifier(model, WORDS)([ask(f"{SAFE_WORDS[0]} <end> <pad> {SAFE_WORDS[1]}")])
    one, other = WORDS.convert_tokens_to_ids(SAFE_WORDS[:2])
    assert [int(i) for i in seen] == [one, *[WORDS.unk_token_id] * 4, other]


# ---- how much of it ------------------------------------------------------------------------------

def test_order_and_neighbours_do_not_matter(planted):
    long = [ask(" ".join([row["prompt"]] * n)) for n, row in enumerate(FRESH[:9], start=1)]
    classifier = TextClassifier(planted, WORDS, limits=Limits(batch_size=4))
    together = classifier(long[::-1])[::-1]
    assert together == pytest.approx([classifier([one])[0] for one in long], abs=1e-6)
    assert classifier([]) == []
    assert classifier.counts == Reads(asked=18)
    nothing, something = classifier([ask(""), long[0]])
    assert math.isnan(nothing)
    assert something == pytest.approx(together[0], abs=1e-6)
    assert classifier.counts == Reads(asked=20, unparsed=1)


def test_what_is_too_long_loses_its_beginning_and_is_counted(planted):
    bad, good = " ".join(UNSAFE_WORDS[:6]), " ".join(SAFE_WORDS[:40] * 2)
    classifier = TextClassifier(planted, WORDS, limits=Limits(max_tokens=8))
    harm = classifier([ask(f"{good} {bad}"), ask(f"{bad} {good}"), ask(" ".join(SAFE_WORDS[:8]))])
    assert [h > 0.5 for h in harm] == [True, False, False]
    assert classifier.counts == Reads(asked=3, cut=2)
    assert WORDS.truncation_side == "right"  # the caller's tokenizer is as it was


@pytest.mark.parametrize("make", [
    lambda: bert(("safe", "unsafe")),
    lambda: RobertaForSequenceClassification(RobertaConfig(
        vocab_size=len(WORDS), id2label={0: "safe", 1: "unsafe"}, **SMALL)).eval()])
def test_a_text_longer_than_the_model_is_cut_to_it(make):
    classifier = TextClassifier(make(), WORDS)
    assert all(0 <= h <= 1 for h in classifier([ask(" ".join(SAFE_WORDS * 5)), ask("lulu")]))
    assert classifier.counts == Reads(asked=2, cut=1)


def test_a_model_that_knows_no_padding_is_asked_one_by_one():
    torch.manual_seed(0)
    model = GPT2ForSequenceClassification(GPT2Config(
        vocab_size=len(WORDS), n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=None,
        eos_token_id=2, pad_token_id=None, id2label={0: "safe", 1: "unsafe"})).eval()
    short, long = ask(SAFE_WORDS[0]), ask(" ".join(SAFE_WORDS[:9]))
    harm = TextClassifier(model, WORDS)([short, long])
    for h, request in zip(harm, (short, long), strict=True):
        assert h == pytest.approx(naive(model, request.text).softmax(-1)[1].item(), abs=1e-6)


@pytest.mark.parametrize("limits", [Limits(max_tokens=3), Limits(batch_size=0)])
def test_limits_that_leave_nothing(limits):
    with pytest.raises(InputError, match="at least"):
        TextClassifier(bert(("safe", "unsafe")), WORDS, limits=limits)([ask("lulu")])
