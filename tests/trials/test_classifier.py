"""What names a prompt classifier on the command line, and what does not."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from conftest import SAFE_WORDS, TEMPLATE, TINY, UNSAFE_WORDS, byte_tokenizer, word_tokenizer
from loopback import Answer, Loopback
from sternpost.errors import InputError, ModelError, SternpostError
from sternpost.judges.classifier import TextClassifier
from sternpost.judges.guards import Guard
from sternpost.judges.moderation import ModerationClassifier
from sternpost.trials.classifier import classifier_from
from sternpost.types import Message, Request

BERT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0}


def ask(text: str) -> Request:
    return Request((Message("user", text),), text)


BAD, GOOD = ask(" ".join(UNSAFE_WORDS[:5])), ask(" ".join(SAFE_WORDS[:5]))


def bert_config(tokenizer: Any, labels: dict[int, str]) -> BertConfig:
    return BertConfig(vocab_size=len(tokenizer), id2label=labels, **BERT)


def a_classifier(folder: Path, labels: dict[int, str], harmful: int) -> str:
    """A BERT that gives label `harmful` to words of unsafe prompts: its first feature says which
    a word is, and nothing else is left of it."""
    tokenizer = word_tokenizer()
    model = BertForSequenceClassification(bert_config(tokenizer, labels))
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    bert = model.bert
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)):
        torch.nn.init.ones_(norm.weight)
    with torch.no_grad():
        for words, sign in ((UNSAFE_WORDS, 1.0), (SAFE_WORDS, -1.0)):
            bert.embeddings.word_embeddings.weight[tokenizer.convert_tokens_to_ids(words), 0] = sign
        bert.pooler.dense.weight[0, 0] = 1.0
        model.classifier.weight[harmful, 0], model.classifier.weight[1 - harmful, 0] = 4.0, -4.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def a_language_model(folder: Path, template: str | None = TEMPLATE) -> str:
    LlamaForCausalLM(LlamaConfig(**{**TINY, "max_position_embeddings": 4096, "vocab_size": 262,
                                    "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None,
                                    "num_hidden_layers": 1})).save_pretrained(folder)
    byte_tokenizer(template).save_pretrained(folder)
    return str(folder)


def test_a_folder_is_a_text_classifier_by_its_config(tmp_path):
    folder = a_classifier(tmp_path / "bert", {0: "safe", 1: "unsafe"}, harmful=1)
    for spec in (folder, f"hf:{folder}"):
        found = classifier_from(spec, device="cpu")
        assert isinstance(found, TextClassifier)
        bad, good = found([BAD, GOOD])
        assert bad > 0.9 > 0.1 > good
        assert found.name == spec


def test_the_saved_labels_say_which_is_harmful(tmp_path):
    folder = a_classifier(tmp_path / "bert", {0: "unsafe", 1: "safe"}, harmful=0)
    bad, good = classifier_from(folder)([BAD, GOOD])
    assert bad > 0.9 > 0.1 > good


def test_labels_that_say_nothing_are_named_by_the_user(tmp_path):
    folder = a_classifier(tmp_path / "bert", {0: "LABEL_0", 1: "LABEL_1"}, harmful=1)
    with pytest.raises(InputError, match="unsafe_labels, from: LABEL_0, LABEL_1"):
        classifier_from(folder)
    bad, good = classifier_from(folder, ("LABEL_1",))([BAD, GOOD])
    assert bad > 0.9 > 0.1 > good
    named = classifier_from(f"{folder}#LABEL_1")
    assert named([BAD, GOOD]) == [bad, good]
    assert named.name == f"{folder}#LABEL_1"
    worst = classifier_from(folder, ("LABEL_1",), scores="sigmoid")([BAD])[0]
    assert worst == pytest.approx(bad ** 0.5 / (bad ** 0.5 + (1 - bad) ** 0.5), abs=1e-4)


@pytest.mark.parametrize(("name", "template", "key"), [
    ("wildguard", TEMPLATE, "wildguard"), ("Llama-Guard-3-8B", None, "llama_guard"),
    ("mine", "UNSAFE CONTENT CATEGORIES {{ messages[0]['content'] }}", "llama_guard")])
def test_a_language_model_is_the_guard_that_its_name_or_template_says(tmp_path, name, template,
                                                                      key):
    found = classifier_from(a_language_model(tmp_path / name, template))
    assert isinstance(found, Guard)
    assert found.form.key == key
    assert math.isnan(found([BAD])[0])
    assert found.counts.unparsed == 1


def test_another_language_model_is_none(tmp_path):
    with pytest.raises(InputError, match="which guard it is: the forms are wildguard, llama_guard"):
        classifier_from(a_language_model(tmp_path / "llama"))


def test_a_model_without_a_trained_head_is_none(tmp_path):
    tokenizer, labels = word_tokenizer(), {0: "safe", 1: "unsafe"}
    tokenizer.save_pretrained(tmp_path)
    BertModel(bert_config(tokenizer, labels)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no prompt classifier: it is a BertModel"):
        classifier_from(str(tmp_path))
    config = bert_config(tokenizer, labels)
    config.architectures = ["BertForSequenceClassification"]
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"no weights for .*chance"):
        classifier_from(str(tmp_path))


def test_a_service(monkeypatch):
    harm = '{"results": [{"flagged": true, "category_scores": {"violence": 0.75}}]}'
    with Loopback(lambda body, number: Answer(text=harm)) as service:
        monkeypatch.setenv("OPENAI_BASE_URL", service.url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        found = classifier_from("openai:guard:1")
        assert isinstance(found, ModerationClassifier)
        assert found([BAD]) == [0.75]
    assert service.requests[0].body["model"] == "guard:1"
    assert service.requests[0].path == "/v1/moderations"


# ---- the user's own ------------------------------------------------------------------------------

OWN = """
def by_length(requests):
    return [min(1, len(r.text) / 100) for r in requests]
def one_short(requests):
    return [0.5] * (len(requests) - 1)
def too_much(requests):
    return [1.5] * len(requests)
def cannot_tell(requests):
    return [float("nan")] * len(requests)
def breaks(requests):
    raise KeyError("label")
class Made:
    pass
number = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(OWN, encoding="utf-8")
    return tmp_path


def test_a_callable_in_a_file(own):
    found = classifier_from("mine.py:by_length", folder=own)
    assert found([ask("a" * 25), ask("a" * 300)]) == [0.25, 1.0]
    assert found.name == "mine.py:by_length"
    assert classifier_from(f"{own}/mine.py:by_length")([]) == []
    assert math.isnan(classifier_from("mine.py:cannot_tell", folder=own)([BAD])[0])


@pytest.mark.parametrize(("name", "said"), [
    ("one_short", "gave 1 numbers for 2 requests"), ("too_much", r"gave 1\.5\."),
    ("breaks", "raised KeyError: 'label'")])
def test_what_it_gives_is_checked(own, name, said):
    with pytest.raises(InputError, match=said):
        classifier_from(f"mine.py:{name}", folder=own)([BAD, GOOD])


@pytest.mark.parametrize(("spec", "said"), [
    ("mine.py:Made", "is a class, and it needs an object of it"),
    ("mine.py:number", r"no prompt classifier\. It needs"),
    ("mine.py:nothing", r"no prompt classifier\. It needs"), ("no.py:x", r"file\.py:name")])
def test_what_is_no_callable_in_a_file(own, spec, said):
    with pytest.raises(InputError, match=said):
        classifier_from(spec, folder=own)


def test_a_file_that_cannot_be_run(own):
    (own / "broken.py").write_text("1 / 0", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be run: ZeroDivisionError"):
        classifier_from("broken.py:x", folder=own)


# ---- nothing at all ------------------------------------------------------------------------------

@pytest.mark.parametrize("spec", ["", "hf:", "nowhere", "azure:x", "openai:", "hf:nobody/nothing",
                                  "hf:/nowhere/at/all"])
def test_what_names_nothing_says_what_would(spec):
    with pytest.raises(SternpostError, match=r"hf:ORG/NAME|openai:MODEL|Hub id"):
        classifier_from(spec)


@pytest.mark.parametrize("spec", ["openai:m", "mine.py:by_length"])
def test_labels_of_what_has_none_are_refused(own, spec):
    with pytest.raises(InputError, match="of a text classifier"):
        classifier_from(spec, ("unsafe",), folder=own)
