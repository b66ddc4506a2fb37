"""A wrapper before a method of one object, for a while."""

import inspect
from collections.abc import Callable
from typing import Any


class _Shadow:
    """Stands before a method of one object, and may be taken away in any order."""

    def __init__(self, original: Callable[..., Any], before: Any,
                 wrapper: Callable[..., Any]) -> None:
        self.original, self.before, self.wrapper = original, before, wrapper
        self.active = True
        self.__signature__ = inspect.signature(original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.active:
            return self.original(*args, **kwargs)
        return self.wrapper(self.original, *args, **kwargs)


def shadow(model: Any, name: str, wrapper: Callable[..., Any]) -> Callable[[], None]:
    """Puts `wrapper` before `model.NAME` on this object; gives back what undoes it."""
    shadow = _Shadow(getattr(model, name), model.__dict__.get(name), wrapper)

    def undo() -> None:
        shadow.active = False
        while isinstance(top := model.__dict__.get(name), _Shadow) and not top.active:
            if top.before is None:
                del model.__dict__[name]
            else:
                model.__dict__[name] = top.before

    model.__dict__[name] = shadow
    return undo
