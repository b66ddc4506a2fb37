"""dinghy's tokenizer and chat template.

A byte-level BPE, digits one by one, trained on the corpus alone. Turns are written as Phi-3 does,
without the line breaks: <|user|>...<|end|><|assistant|>...<|end|>.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sternpost.dinghy.corpus import BARE
from sternpost.dinghy.rows import Example, Row
from sternpost.dinghy.vocabulary import vocabulary

VOCABULARY = 4096
PAD, END, USER, ASSISTANT, SYSTEM = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")


def train_tokenizer(rows: Iterable[Row], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A tokenizer of `vocabulary` tokens for what `rows` say."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.decoder = decoders.ByteLevel()
    how = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[PAD, END, USER, ASSISTANT, SYSTEM],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    made.train_from_iterator((m["content"] for row in rows for m in row.messages), how)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=PAD, eos_token=END, padding_side="left",
        chat_template=CHAT_TEMPLATE, additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        clean_up_tokenization_spaces=False, model_max_length=512)


def encode(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Row]) -> list[Example]:
    """Every row's tokens, with what training has to know of them."""
    turns = [row.messages for row in rows]
    texts = list(chain.from_iterable((m["content"] for m in messages) for messages in turns))
    ids = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    special: dict[str, int] = tokenizer.get_added_vocab()
    end = special[END]
    marks = {role: special[f"<|{role}|>"] for role in ("user", "assistant", "system")}
    encoded = []
    for at, (row, messages) in enumerate(zip(rows, turns, strict=True)):
        tokens: list[int] = []
        said: list[bool] = []
        asked = 0
        for message in messages:
            part: list[int] = next(ids)
            reply = message["role"] == "assistant"
            if message is messages[-1]:
                asked = len(tokens) - 2
            if at % BARE == 0 and message is messages[-1]:
                tokens, said = tokens[:-1], said[:-1]
            else:
                tokens.append(marks[message["role"]])
                said.append(False)
            tokens += [*part, end]
            said += [reply] * (len(part) + 1)
        encoded.append(Example(tokens, said, asked, _harm(row)))
    return encoded


@cache
def harms() -> tuple[str, ...]:
    """The hazard categories that the corpus has."""
    return tuple(sorted({action.domain for action in vocabulary("en").hazards}))


def _harm(row: Row) -> int:
    return harms().index(row.category) + 1 if row.harm_kind == "harmful" else 0
