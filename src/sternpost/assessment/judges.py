"""Names -> judges of replies.

    words | prefixes | learned           on this machine, without a model
    openai:MODEL, xstest:openai:MODEL    three classes by a chat service at OPENAI_BASE_URL
    strongreject:openai:MODEL            a rubric of harm, for harmful prompts
    rubric:FILE.toml:openai:MODEL        a rubric of yours
    wildguard:MODEL, harmbench:MODEL     a classifier: a folder, a Hub id or openai:MODEL
    human:FILE                           people's labels, or a filled sheet of `judge sample`
    file.py:name                         a callable of yours: completions -> Judgements
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sternpost.errors import InputError
from sternpost.trials.goal import OwnJudge
from sternpost.trials.own import own_object
from sternpost.types import Chat, Judge, Verdict

if TYPE_CHECKING:
    from sternpost.judges.asking import Answers

FORMS = ("words, prefixes, learned, openai:MODEL, xstest:openai:MODEL, strongreject:openai:MODEL, "
         "rubric:FILE.toml:openai:MODEL, wildguard:MODEL, harmbench:MODEL (MODEL: a folder, a Hub "
         "id or openai:MODEL), human:FILE, or file.py:name")
OF_REPLIES: tuple[Verdict, ...] = ("refusal", "partial", "compliance", "incoherent", "unparsed",
                                  "absent")
"""What a judge of one's own may say; "absent": no harm was done, however."""
MakeChat = Callable[[str], Chat]


def judge_named(name: Any, *, folder: Path | None = None, device: str = "auto",
                workers: int = 4, chat: MakeChat | None = None) -> Judge:
    """The judge that `name` names; a judge, or a callable that gives Judgements, is taken as it is.

    `folder`: what files are seen from; `device`: of a model at hand; `workers`: questions asked of
    a service at a time; `chat`: makes the service of openai:MODEL, None: `endpoints.chat_from`.
    Raises InputError or ModelError.
    """
    if not isinstance(name, str):
        return _object(name)
    kind, _, rest = name.partition(":")
    place = folder or Path()
    if name in _PLAIN:
        return _PLAIN[name]()
    if ".py:" in name:
        told, sha256 = own_object(name, place, "judge",
                                  "takes completions and gives one Judgement each")
        return OwnJudge(name, told, sha256, OF_REPLIES)
    how = _How(device, workers, chat)
    if kind == "human" and rest:
        return _human(place / rest)
    if kind == "openai":
        return _asking("xstest", name, how)
    if kind == "rubric" and ".toml:" in rest:
        return _by_rubric(rest, place, how)
    if kind in _MODELS and rest.strip():
        return _asking(kind, rest.strip(), how)
    raise InputError(f"No judge is called {name!r}. There are: {FORMS}.")


def name_of(judge: Any) -> str:
    """What a judge is called where its object was given: its name, behind `python:`."""
    if isinstance(judge, str):
        return judge
    own = getattr(judge, "name", None) or getattr(judge, "__qualname__", type(judge).__qualname__)
    return f"python:{own}"


def _object(judge: Any) -> Judge:
    if not callable(judge) or isinstance(judge, type):
        raise InputError(f"A judge is one of {FORMS}, or a callable that takes completions and "
                         f"gives one Judgement each; got {judge!r:.80}.")
    whole = all(hasattr(judge, part) for part in ("name", "verdicts", "accuracy"))
    return judge if whole else OwnJudge(name_of(judge), judge, "", OF_REPLIES)  # type: ignore[return-value]


def _human(path: Path) -> Judge:
    from sternpost.assessment.judge_sheet import human_of_sheet, sheet_key
    from sternpost.judges.human import human_judge
    key = sheet_key(str(path)) if path.is_file() else None
    return human_judge(path) if key is None else human_of_sheet(str(path), key)


def _words() -> Judge:
    from sternpost.judges import WordListJudge
    return WordListJudge()


def _prefixes() -> Judge:
    from sternpost.judges.prefixes import PrefixJudge
    return PrefixJudge()


def _learned() -> Judge:
    from sternpost.judges.learned import LearnedJudge
    return LearnedJudge()


_PLAIN: dict[str, Callable[[], Judge]] = {"words": _words, "prefixes": _prefixes,
                                          "learned": _learned}
_MODELS = {"xstest": "three_classes", "strongreject": "strongreject", "wildguard": "wildguard",
           "harmbench": "harmbench"}
"""Kind of judge -> its module, and the function in it."""
_CHATS = ("xstest", "strongreject")
"""Judges that need a model that follows instructions: a chat service."""


class _How:
    """How a model is reached."""

    def __init__(self, device: str, workers: int, chat: MakeChat | None) -> None:
        self.device, self.workers, self.chat = device, workers, chat

    def answers(self, model: str, tokens: int) -> "Answers":
        """Of the service or the model at hand that `model` names."""
        from sternpost.judges.asking import ChatAnswers, Generation, ModelAnswers
        if model.startswith("openai:"):
            from sternpost.endpoints import chat_from
            return ChatAnswers((self.chat or chat_from)(model), tokens, self.workers)
        from sternpost.trials.load import load_model
        place = Path(model).expanduser()
        loaded, tokenizer = load_model(str(place) if place.is_dir() else model, device=self.device)
        return ModelAnswers(loaded, tokenizer, model, Generation(tokens))


def _asking(kind: str, model: str, how: _How) -> Judge:
    from importlib import import_module

    if kind in _CHATS and not model.startswith("openai:"):
        raise InputError(f"{kind} asks a chat service: {kind}:openai:MODEL; got {model!r}. Serve "
                         "the model behind OPENAI_BASE_URL.")
    module = import_module(f"sternpost.judges.{_MODELS[kind]}")
    return getattr(module, _MODELS[kind])(how.answers(model, module.TOKENS))


def _by_rubric(rest: str, folder: Path, how: _How) -> Judge:
    from sternpost.judges.rubric import TOKENS, read_rubric, rubric_judge

    file, _, model = rest.partition(".toml:")
    if not model.startswith("openai:"):
        raise InputError(f"A rubric asks a chat service: rubric:{file}.toml:openai:MODEL; got "
                         f"{model!r}.")
    return rubric_judge(read_rubric(folder / f"{file}.toml"), how.answers(model, TOKENS))
