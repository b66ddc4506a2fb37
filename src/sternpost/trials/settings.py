"""How a verb is told what to do: one dataclass of settings is the function's arguments, the
recipe's keys and the command line's options. Light: nothing heavy is imported."""

import inspect
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from sternpost.errors import InputError

S = TypeVar("S")


def setting(help: str, default: Any = MISSING, many: type | None = None,
            choices: Sequence[str] = (), also: str | None = None) -> Any:
    """A field with its help text; `many`: a sequence of that type, () if not given."""
    metadata = {"help": help, "many": many, "choices": tuple(choices), "also": also}
    return field(default=() if many else default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every verb that reads a model can be told. A class of settings says what `model` is."""

    model: str
    batch_size: str = setting("Rows a forward; auto halves when memory runs out.", "auto")
    system: str | None = setting("System prompt put before every conversation.", None)
    chat_template: str | None = setting("File with a Jinja chat template to use instead.", None)
    chat_template_kwargs: str | None = setting("Further template variables, as JSON.", None)
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto")
    dtype: str = setting("auto, float32, float16, bfloat16.", "auto")
    revision: str | None = setting("Revision of a Hub model.", None)
    resume: bool = setting("Go on with an unfinished run.", False)
    force: bool = setting("Replace another run in the folder.", False)
    PLACE: ClassVar[tuple[str, ...]] = ("out", "dry_run", "resume", "force")
    """Fields that say where a run goes and how it starts, and not which run it is."""

    def check(self, *whole: str) -> None:
        """Gives every field its own type. Raises InputError for a value that is none of its
        field's; `whole`: fields that are whole numbers from 1 up."""
        coerce(self)
        check_types(self)
        check_choices(self)
        check_whole(self, *whole)
        check_rows(self.batch_size)
        check_json(self.chat_template_kwargs)

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """What was given, with what that itself brings along."""
        return dict(given)

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
        body: dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        return json.loads(json.dumps({k: v for k, v in body.items() if k not in self.PLACE}))


def arranged(settings: Any) -> list[Any]:
    """The fields of a settings class as a person reads them: its own, then those that all have."""
    kind = settings if isinstance(settings, type) else type(settings)
    if not issubclass(kind, Settings):
        return list(fields(settings))
    shared = {spec.name for spec in fields(Settings)} - {"model"}
    return sorted(fields(settings), key=lambda spec: spec.name in shared)


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


def settings_from(cls: type[S], given: Mapping[str, Any], where: str) -> S:
    """`given` as settings. Unknown and missing keys are refused by name, with what is known."""
    known = {spec.name: spec for spec in arranged(cls)}
    names = {spec.metadata["also"]: name for name, spec in known.items() if spec.metadata["also"]}
    given = {names.get(key, key): value for key, value in given.items()}
    for key in given:
        if key not in known:
            raise InputError(f"{where}: unknown setting {key!r}. Known: {', '.join(known)}.")
    given = cls.filled(given) if issubclass(cls, Settings) else given
    missing = [name for name, spec in known.items() if name not in given
               and spec.default is MISSING]
    if missing:
        raise InputError(f"{where}: missing {', '.join(missing)}. Give --{missing[0]} ..., or "
                         f"{missing[0]} = \"...\" in a recipe.")
    return cls(**given)


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The settings of a TOML recipe, with `key=value` and `table.key=value` changes applied."""
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
            value = tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            value = text
        _change(recipe, key.strip().replace("-", "_"), value)
    return recipe


def _change(recipe: dict[str, Any], key: str, value: Any) -> None:
    """Sets `key`, or `table.key` in its table."""
    table, dot, name = key.partition(".")
    if not dot:
        recipe[key] = value
        return
    within = recipe.setdefault(table, {})
    if not isinstance(within, dict):
        raise InputError(f"--set {key}: {table} is no table of the recipe; it is {within!r}.")
    within[name] = value


def takes(settings: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a function of `**settings` the signature that `settings` describes."""
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = [inspect.Parameter(
            spec.name, inspect.Parameter.KEYWORD_ONLY, annotation=spec.type,
            default=inspect.Parameter.empty if spec.default is MISSING else spec.default)
            for spec in arranged(settings)]
        function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return function

    return decorate


def command_of(settings: Any, verb: str) -> str:
    """The command line that repeats a run."""
    words = [f"sternpost {verb}"]
    for spec in arranged(settings):
        value = getattr(settings, spec.name)
        if value == spec.default or spec.name in ("dry_run", "resume", "force"):
            continue
        flag = "--" + spec.name.replace("_", "-")
        if spec.metadata["many"] is float:
            value = (",".join(map(repr, value)),)
        for one in value if isinstance(value, tuple) else (value,):
            words.append(flag if one is True else f"{flag} {_quoted(one)}")
    return " ".join(words)


def _quoted(value: object) -> str:
    text = str(value)
    plain = text and all(c.isalnum() or c in "-_./:#,+" for c in text)
    return text if plain else "'" + text.replace("'", "'\\''") + "'"
