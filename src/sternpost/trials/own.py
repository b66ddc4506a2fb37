"""`file.py:name` -> the object of that name: local code, run because the user asked for it."""

import importlib.util
from pathlib import Path
from typing import Any

from sternpost.errors import InputError
from sternpost.files import sha256_file


def own_object(spec: str, folder: Path, what: str, does: str) -> tuple[Any, str]:
    """The callable that `spec` names, its file seen from `folder`, and the file's sha256.

    `what` it is and what it `does` ("takes ... and gives ...") are for messages. Raises InputError.
    """
    file, colon, name = spec.rpartition(":")
    place = folder / file
    if not colon or not file.endswith(".py") or not place.is_file():
        raise InputError(f"A {what} of yours is file.py:name, with the file there; got {spec!r}.")
    described = importlib.util.spec_from_file_location(place.stem, place)
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    try:
        described.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{place} cannot be run: {type(error).__name__}: {error}.") from error
    found = getattr(module, name, None)
    if not callable(found) or isinstance(found, type):
        is_a = "a class, and it needs an object of it" if isinstance(found, type) else \
            f"no {what}"
        raise InputError(f"{place}: {name!r} is {is_a}. It needs a callable that {does}.")
    return found, sha256_file(place)
