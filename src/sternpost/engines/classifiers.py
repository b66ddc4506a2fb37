"""Prompt classifiers from a folder or the Hub: a sequence classifier, or a causal guard model."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sternpost.engines.loading import check_config, load_model, pick_device
from sternpost.errors import ModelError

Head = Literal["labels", "tokens"]


class Loaded(NamedTuple):
    """A model in evaluation mode, and what its head gives."""

    model: Any
    tokenizer: Any
    head: Head
    """"labels": a logit a label; "tokens": one a token of the vocabulary."""


def load_classifier(name: str | Path, *, revision: str | None = None,
                    device: str = "auto") -> Loaded:
    """The model of a folder or Hub id, float32 on a CPU, else the checkpoint's type. Raises
    ModelError, for a checkpoint without a trained head too."""
    config = check_config(str(name), revision)
    heads = [str(kind) for kind in getattr(config, "architectures", None) or ()]
    if any(kind.endswith("ForCausalLM") for kind in heads):
        return Loaded(*load_model(name, revision=revision, device=device), "tokens")
    if not any(kind.endswith("ForSequenceClassification") for kind in heads):
        raise ModelError(f"{name} is no prompt classifier: it is a {', '.join(heads) or 'model'}. "
                         "Give a ...ForSequenceClassification, or WildGuard or Llama Guard 1 to 3; "
                         "another can be served behind openai:MODEL, or wrapped in file.py:name.")
    where = pick_device(device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name), revision=revision)
        auto: Any = AutoModelForSequenceClassification
        model, told = auto.from_pretrained(
            str(name), revision=revision, output_loading_info=True,
            dtype=torch.float32 if where == "cpu" else "auto")
    except Exception as error:
        raise ModelError(f"Cannot load a text classifier from {name}: {type(error).__name__}: "
                         f"{(str(error).strip().splitlines() or [''])[0]}. Give a folder written "
                         "by save_pretrained with a tokenizer, or a Hub id. transformers "
                         f"{transformers.__version__} may also be too old for it.") from error
    if told["missing_keys"]:
        raise ModelError(f"{name} has no weights for {sorted(told['missing_keys'])[0]}: what it "
                         "says would be chance. Give a checkpoint of the trained classifier.")
    return Loaded(model.to(where).eval(), tokenizer, "labels")
