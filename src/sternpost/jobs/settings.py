"""The settings of a run: one dataclass is the function's arguments, the recipe's keys and the
command line's options. Light: nothing heavy is imported."""

import inspect
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args

from sternpost.errors import InputError
from sternpost.types import ERROR_TERMS, MODES, Hookpoint, Positions

S = TypeVar("S")


def setting(help: str, default: Any = MISSING, many: type | None = None,
            choices: Sequence[str] = (), also: str | None = None) -> Any:
    """A field with its help text; `many`: a sequence of that type, () if not given."""
    metadata = {"help": help, "many": many, "choices": tuple(choices), "also": also}
    return field(default=() if many else default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Everything that `run` can be told."""

    model: str = setting("Model: a folder or a Hub id.")
    unsafe: str = setting("Prompts that should be refused: FILE[#column] or hf:org/name/split.")
    safe: str = setting("Prompts that should be answered.")
    out: str = setting("Folder for the results.")
    capability: str | None = setting("Prompts with an `answer` column; counts right replies.",
                                      None)
    layer: int | None = setting("Block whose output is read and written, 0-based; default: the "
                                 "one nearest to 0.2 of the depth (the paper's 6 of 32).", None)
    corpus: str | None = setting("More text to train the SAE on.", None)
    archetype: tuple[str, ...] = setting("A prompt that the model refuses; its refusal proposes "
                                          "features. Repeatable.", many=str)
    sae: str | None = setting("SAE to use instead of training one: a folder or Hub id[:SAE_ID].",
                               None)
    d_sae: int | None = setting("Features of the SAE to train; default: 8 x d_model, as in the "
                                 "paper.", None)
    k: int | None = setting("Active features a token; default: 32, as in the paper, at most "
                             "d_model / 4.", None)
    tokens: int | None = setting("Tokens to train the SAE on; default: 500,000, or 40 x d_sae if "
                                  "that is more.", None)
    feature: tuple[int, ...] = setting("Feature to try instead of searching. Repeatable.",
                                        many=int)
    values: tuple[float, ...] = setting("Clamp values to sweep, activation units, comma-"
                                         "separated; default: multiples of the feature's high "
                                         "activation.", many=float)
    positions: str = setting("Tokens to write: all, prompt, t_inst, tail, response, last(k), "
                              "joined by +.", "all")
    error: str = setting("keep adds only the change; drop replaces the stream by the edited "
                          "reconstruction.", "keep", choices=ERROR_TERMS)
    mode: str = setting("How activations are read.", "exact", choices=MODES)
    no_gate: bool = setting("Steer every prompt; no gated condition.", False)
    limit: int | None = setting("At most so many prompts of each file.", None)
    batch_size: str = setting("Rows a forward; auto halves when memory runs out.", "auto")
    max_new_tokens: int = setting("Longest reply, in tokens.", 64)
    system: str | None = setting("System prompt put before every conversation.", None)
    chat_template: str | None = setting("File with a Jinja chat template to use instead.", None)
    chat_template_kwargs: str | None = setting("Further template variables, as JSON.", None)
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto")
    dtype: str = setting("auto, float32, float16, bfloat16.", "auto")
    revision: str | None = setting("Revision of a Hub model.", None)
    seed: int = setting("Seed of splits, SAE and controls.", 0)
    dry_run: bool = setting("Check everything, print the plan, write nothing.", False)
    resume: bool = setting("Go on with an unfinished run.", False)
    force: bool = setting("Replace another run in the folder.", False)

    def __post_init__(self) -> None:
        coerce(self)
        _check(self)

    @property
    def rows(self) -> int | None:
        """Rows a forward, or None for auto."""
        return None if self.batch_size == "auto" else int(self.batch_size)

    @property
    def template_arguments(self) -> dict[str, Any]:
        """`chat_template_kwargs` as a dict."""
        return json.loads(self.chat_template_kwargs) if self.chat_template_kwargs else {}

    def identity(self) -> dict[str, Any]:
        """What makes this run another than others: all but where it goes and how it starts."""
        body = asdict(self)
        for name in ("out", "dry_run", "resume", "force"):
            del body[name]
        return json.loads(json.dumps(body))

    def command(self) -> str:
        """The command line that repeats this run."""
        words = ["sternpost run"]
        for spec in fields(self):
            value = getattr(self, spec.name)
            if value == spec.default or spec.name in ("dry_run", "resume", "force"):
                continue
            flag = "--" + spec.name.replace("_", "-")
            if spec.name == "values":
                value = (",".join(map(repr, value)),)
            for one in value if isinstance(value, tuple) else (value,):
                words.append(flag if one is True else f"{flag} {_quoted(one)}")
        return " ".join(words)


def coerce(settings: Any) -> None:
    """Gives a frozen settings object its fields in their own types where that is harmless."""
    for spec in fields(settings):
        value, many = getattr(settings, spec.name), spec.metadata["many"]
        if many and not isinstance(value, tuple):
            value = (value,) if isinstance(value, str | int | float) else tuple(value or ())
        if many is float:
            value = tuple(float(one) if type(one) is int else one for one in value)
        if type(value) is int and float in (spec.type, *get_args(spec.type)):
            value = float(value)
        if isinstance(value, Path) or (spec.name == "batch_size" and isinstance(value, int)):
            value = str(value)
        if spec.name == "chat_template_kwargs" and isinstance(value, Mapping):
            value = json.dumps(value, sort_keys=True)
        object.__setattr__(settings, spec.name, value)


def _check(s: RunSettings) -> None:
    check_types(s)
    Positions(s.positions)
    if s.layer is not None:
        Hookpoint(s.layer)
    check_choices(s)
    check_whole(s, "d_sae", "k", "tokens", "limit", "max_new_tokens")
    check_rows(s.batch_size)
    _check_features(s)
    if s.error == "drop" and s.mode != "exact":
        raise InputError("error 'drop' replaces the stream by the SAE's reconstruction and needs "
                         f"mode 'exact'; got mode {s.mode!r}.")
    if s.sae is not None and any((s.d_sae, s.k, s.tokens)):
        raise InputError("--sae brings its own size; leave out --d-sae, --k and --tokens.")
    check_json(s.chat_template_kwargs)


def check_types(s: Any) -> None:
    """Raises InputError where a field holds another type: a recipe's values come with types of
    their own, and so do a caller's."""
    for spec in fields(s):
        kinds: tuple[Any, ...] = get_args(spec.type) or (spec.type,)
        value = getattr(s, spec.name)
        if spec.metadata["many"] or (value is None and type(None) in kinds):
            continue
        if not isinstance(value, kinds[0]) or isinstance(value, bool) != (kinds[0] is bool):
            raise InputError(f"{spec.name} is {_SAID[kinds[0]]}; got {value!r}.")


_SAID = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def check_whole(s: Any, *names: str) -> None:
    """Raises InputError where one of these is given and no whole number from 1 up."""
    for name in names:
        value = getattr(s, name)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError(f"{name} is a whole number from 1 up; got {value!r}.")


def check_choices(s: Any) -> None:
    """Raises InputError where a field holds none of its choices."""
    for spec in fields(s):
        choices = spec.metadata["choices"]
        if choices and getattr(s, spec.name) not in choices:
            raise InputError(f"{spec.name} is one of {', '.join(choices)}; got "
                             f"{getattr(s, spec.name)!r}.")


def check_rows(batch_size: str) -> None:
    """Raises InputError where the rows of a forward are neither auto nor a number."""
    if batch_size != "auto" and (not batch_size.isdigit() or int(batch_size) < 1):
        raise InputError(f"batch_size is 'auto' or a whole number from 1 up; got {batch_size!r}.")


def check_json(text: str | None) -> None:
    """Raises InputError where chat_template_kwargs is no JSON object."""
    try:
        good = isinstance(json.loads(text or "{}"), dict)
    except ValueError:
        good = False
    if not good:
        raise InputError("chat_template_kwargs is a JSON object such as "
                         f"'{{\"enable_thinking\": false}}'; got {text!r}.")


def _check_features(s: RunSettings) -> None:
    for value in s.values:
        if isinstance(value, bool) or not isinstance(value, int | float) \
                or value != value or abs(value) == float("inf"):
            raise InputError(f"values are finite numbers in activation units; got {value!r}.")
    for text in s.archetype:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"archetype is a prompt, or a list of prompts; got {text!r}.")
    for feature in s.feature:
        if isinstance(feature, bool) or not isinstance(feature, int) or feature < 0:
            raise InputError(f"feature is a whole number from 0 up; got {feature!r}.")
    if len(set(s.values)) != len(s.values):
        raise InputError(f"values names a value twice: {', '.join(map(str, s.values))}.")


def settings_from(cls: type[S], given: Mapping[str, Any], where: str) -> S:
    """`given` as settings. Unknown and missing keys are refused by name, with what is known."""
    known = {spec.name: spec for spec in fields(cls)}  # type: ignore[arg-type]
    names = {spec.metadata["also"]: name for name, spec in known.items() if spec.metadata["also"]}
    given = {names.get(key, key): value for key, value in given.items()}
    for key in given:
        if key not in known:
            raise InputError(f"{where}: unknown setting {key!r}. Known: {', '.join(known)}.")
    missing = [name for name, spec in known.items() if name not in given
               and spec.default is MISSING]
    if missing:
        raise InputError(f"{where}: missing {', '.join(missing)}. Give --{missing[0]} ..., or "
                         f"{missing[0]} = \"...\" in a recipe.")
    return cls(**given)


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The settings of a TOML recipe, with `key=value` changes applied."""
    try:
        recipe = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"No recipe at {path}. Give a TOML file of settings.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a TOML recipe: {error}.") from error
    recipe = {key.replace("-", "_"): value for key, value in recipe.items()}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise InputError(f"--set takes key=value; got {change!r}.")
        try:
            recipe[key.strip().replace("-", "_")] = tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            recipe[key.strip().replace("-", "_")] = text
    return recipe


def takes(settings: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a function of `**settings` the signature that `settings` describes."""
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = [inspect.Parameter(
            spec.name, inspect.Parameter.KEYWORD_ONLY, annotation=spec.type,
            default=inspect.Parameter.empty if spec.default is MISSING else spec.default)
            for spec in fields(settings)]
        function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return function

    return decorate


def _quoted(value: Any) -> str:
    text = str(value)
    plain = text and all(c.isalnum() or c in "-_./:#,+" for c in text)
    return text if plain else "'" + text.replace("'", "'\\''") + "'"
