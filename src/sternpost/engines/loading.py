"""Models and tokenizers from a folder or the Hub, and which tokenizer a loaded model has."""

import weakref
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from sternpost.engines.templates import ensure_template
from sternpost.errors import InputError, MissingExtra, ModelError

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_tokenizers: "weakref.WeakKeyDictionary[Any, Any]" = weakref.WeakKeyDictionary()
_warnings: "weakref.WeakKeyDictionary[Any, tuple[str, ...]]" = weakref.WeakKeyDictionary()


def load_model(name: str | Path, *, revision: str | None = None, device: str = "auto",
               dtype: Any = "auto", trust_remote_code: bool = False,
               **from_pretrained_kwargs: Any) -> tuple[Any, Any]:
    """A causal language model, in evaluation mode, and its tokenizer.

    `name`: a folder or a Hub id. `device`: "auto" is cuda, mps, cpu, the first that is there;
    beside a `device_map` it is an error. `dtype`: "auto" is float32 on a CPU, else the
    checkpoint's. Raises ModelError.
    """
    placed = "device_map" in from_pretrained_kwargs
    if placed and device != "auto":
        raise InputError(f"device={device!r} beside device_map="
                         f"{from_pretrained_kwargs['device_map']!r}: give one of the two.")
    _check_folder(str(name))
    where = pick_device(device)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    kind = _dtype(dtype, "cuda" if placed else where)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name), **options)
        auto: Any = AutoModelForCausalLM
        model = auto.from_pretrained(str(name), dtype=kind, **options, **from_pretrained_kwargs)
    except ImportError as error:
        raise MissingExtra(f"Loading {name} ({error})", "accelerate") from error
    except Exception as error:
        raise ModelError(_cannot_load(name, error)) from error
    if not placed:
        model.to(where)
    model.eval()
    remember(model, tokenizer)
    return model, tokenizer


def remember(model: Any, tokenizer: Any) -> None:
    """Notes which tokenizer belongs to `model`, after making it fit for padded batches."""
    notes = [note for note in (ensure_template(tokenizer),) if note]
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    _tokenizers[model] = tokenizer
    _warnings[model] = tuple(notes)


def tokenizer_of(model: Any) -> Any | None:
    """The tokenizer of a model that we loaded; None for another."""
    return _tokenizers.get(model)


def warnings_of(model: Any) -> tuple[str, ...]:
    """What was noted while loading `model`."""
    return _warnings.get(model, ())


def pick_device(device: str) -> str:
    """`device`, or for "auto" the first of cuda, mps, cpu that is there. Raises InputError."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(),
             "cpu": True}
    if device == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there.get(device.partition(":")[0], False):
        have = ", ".join(name for name, is_there in there.items() if is_there)
        raise InputError(f"No device {device!r} here; there is {have}. Give --device {have}, or "
                         "leave it out.")
    return device


def _dtype(dtype: Any, device: str) -> Any:
    if dtype == "auto":
        return torch.float32 if device == "cpu" else "auto"
    if isinstance(dtype, torch.dtype):
        return dtype
    if str(dtype) not in _DTYPES:
        raise InputError(f"dtype is auto, {', '.join(_DTYPES)}; got {dtype!r}.")
    return _DTYPES[str(dtype)]


def _check_folder(name: str) -> None:
    path = Path(name)
    looks_local = path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local and not path.is_dir():
        raise ModelError(f"No model folder at {name}. Give a folder with config.json, weights and "
                         "a tokenizer, or a Hub id such as microsoft/Phi-3-mini-4k-instruct.")
    if looks_local and not (path / "config.json").is_file():
        raise ModelError(f"{name} is no model folder: it has no config.json. Give the folder that "
                         "save_pretrained wrote.")


def _cannot_load(name: str | Path, error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (f"Cannot load a causal language model from {name}: {type(error).__name__}: "
            f"{lines[0] if lines else ''}. Give a folder written by save_pretrained with a "
            "tokenizer, or a Hub id; --trust-remote-code is needed where the model brings its own "
            f"code. transformers {transformers.__version__} may also be too old for it.")


def check_config(name: str, revision: str | None = None) -> Any:
    """The config of a model, without its weights. Raises ModelError as `load_model` does."""
    _check_folder(name)
    try:
        return AutoConfig.from_pretrained(name, revision=revision)
    except Exception as error:
        raise ModelError(_cannot_load(name, error)) from error
