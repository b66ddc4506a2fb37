"""Names -> prompt classifiers, whose P(harm) a gate is handed.

    hf:ORG/NAME, or a folder    a text classifier, or WildGuard or Llama Guard, by its config
    ...#LABEL,LABEL             the same, and which of a text classifier's labels mean harm
    openai:MODEL                a moderation service at OPENAI_BASE_URL, with OPENAI_API_KEY
    file.py:name                a callable of yours: requests -> P(harm) each
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sternpost.endpoints import moderation_from
from sternpost.engines.classifiers import load_classifier
from sternpost.errors import InputError
from sternpost.files import sha256_file
from sternpost.judges.classifier import Scores, TextClassifier
from sternpost.judges.guards import Guard, form_of, guard_forms
from sternpost.judges.moderation import ModerationClassifier
from sternpost.trials.load import model_hashes
from sternpost.trials.own import own_object
from sternpost.types import PromptClassifier, Request

FORMS = "hf:ORG/NAME or a folder [#LABEL,...], openai:MODEL or file.py:name"


def classifier_from(spec: str, unsafe_labels: Sequence[str] = (), *, scores: Scores | None = None,
                    folder: Path | None = None, device: str = "auto") -> PromptClassifier:
    """The prompt classifier that `spec` names.

    `unsafe_labels`, `scores`: of a text classifier. `folder`: what file.py is seen from. Raises
    InputError or ModelError.
    """
    plain, labels = labels_of(spec)
    unsafe_labels = (*unsafe_labels, *labels)
    kind, _, name = plain.partition(":")
    if (unsafe_labels or scores) and (kind == "openai" or ".py:" in spec):
        raise InputError(f"unsafe_labels and scores are of a text classifier; {spec!r} is none.")
    if kind == "openai":
        return ModerationClassifier(moderation_from(spec))
    if ".py:" in spec:
        return OwnClassifier(spec, *own_object(
            spec, folder or Path(), "prompt classifier",
            "takes requests and gives one P(harm) from 0 to 1 each"))
    if kind == "hf" and name.strip():
        return _loaded(spec, name.strip(), unsafe_labels, scores, device)
    if plain and Path(plain).expanduser().is_dir():
        return _loaded(spec, str(Path(plain).expanduser()), unsafe_labels, scores, device)
    raise InputError(f"A prompt classifier is {FORMS}; got {spec!r}, and there is no such folder.")


def labels_of(spec: str) -> tuple[str, tuple[str, ...]]:
    """A name without the labels behind it, and these. A folder's own name may hold the mark."""
    name, mark, said = spec.rpartition("#")
    if not mark or Path(spec).expanduser().is_dir():
        return spec, ()
    return name, tuple(label.strip() for label in said.split(",") if label.strip())


def shown_names(specs: Sequence[str]) -> list[str]:
    """What tables and packs call each: a file or folder by its name, for where it lies is nobody
    else's; whole where two would be called the same."""
    short = [_shown(spec) for spec in specs]
    return [name if short.count(name) == 1 else spec
            for name, spec in zip(short, specs, strict=True)]


def _shown(spec: str) -> str:
    plain, labels = labels_of(spec)
    file, _, name = plain.rpartition(":")
    if file.endswith(".py"):
        return f"{Path(file).name}:{name}"
    if not Path(plain).expanduser().is_dir():
        return spec
    return Path(plain).expanduser().resolve().name + (f"#{','.join(labels)}" if labels else "")


def check_classifier(spec: str) -> dict[str, str]:
    """sha256 of what this machine has of a classifier, by file; nothing is loaded or asked. Raises
    InputError for what names none."""
    plain, _ = labels_of(spec)
    kind, _, name = plain.partition(":")
    if kind == "openai":
        moderation_from(plain)
        return {}
    if ".py:" in plain:
        file = Path(plain.rpartition(":")[0])
        if not file.is_file():
            raise InputError(f"A prompt classifier of yours is file.py:name, with the file there; "
                             f"got {spec!r}.")
        return {file.name: sha256_file(file)}
    if kind == "hf" and name.strip():
        return model_hashes(name.strip())
    if plain and Path(plain).expanduser().is_dir():
        return model_hashes(str(Path(plain).expanduser()))
    raise InputError(f"A prompt classifier is {FORMS}; got {spec!r}, and there is no such folder.")


def _loaded(spec: str, name: str, unsafe_labels: Sequence[str], scores: Scores | None,
            device: str) -> PromptClassifier:
    model, tokenizer, head = load_classifier(name, device=device)
    if head == "labels":
        return TextClassifier(model, tokenizer, unsafe_labels, scores=scores, name=spec)
    form = form_of(Path(name).resolve().name, tokenizer)
    if form is None:
        raise InputError(f"{name} is a language model, and nothing tells which guard it is: the "
                         f"forms are {', '.join(guard_forms())}. Let its folder's name say so, or "
                         "wrap it in file.py:name.")
    if unsafe_labels or scores:
        raise InputError(f"unsafe_labels and scores are of a text classifier; {spec!r} is a guard.")
    return Guard(model, tokenizer, form, name=spec)


class OwnClassifier:
    """A prompt classifier of the user's own, with what it gives checked."""

    def __init__(self, spec: str, told: Callable[..., Any], sha256: str) -> None:
        self.name, self.told, self.sha256 = spec, told, sha256

    def __call__(self, requests: Sequence[Request]) -> list[float]:
        """P(harm) of each request. Raises InputError where it fails or gives another thing."""
        try:
            found = [float(harm) for harm in self.told(requests)]
        except Exception as error:
            raise InputError(f"The prompt classifier {self.name} raised {type(error).__name__}: "
                             f"{error}. It takes requests and gives one P(harm) each.") from error
        wrong = [harm for harm in found if not (0.0 <= harm <= 1.0 or math.isnan(harm))]
        if len(found) != len(requests) or wrong:
            got = f"{wrong[0]:g}" if wrong else f"{len(found)} numbers for {len(requests)} requests"
            raise InputError(f"The prompt classifier {self.name} gave {got}. It gives one number "
                             "from 0 to 1 a request, or NaN where it cannot tell.")
        return found
