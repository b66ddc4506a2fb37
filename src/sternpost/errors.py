"""Every error that sternpost raises on purpose.

    SternpostError
    ├── InputError (ValueError)      an argument, setting or recipe key is wrong
    │   ├── EditError                an edit or a plan cannot be applied as asked
    │   ├── PolicyError              a response, a level or a rule that means nothing
    │   ├── PositionsError           a position name that this call cannot resolve
    │   └── PromptFileError          a prompt file is missing, unreadable or lacks a column
    ├── LeakageError                 something would be evaluated on what it was fitted on
    ├── ModelError                   the model cannot be loaded or is not understood
    │   ├── HookpointError           no such block, or no residual stream there
    │   └── TemplateError            the chat template fails or marks nothing we can find
    ├── SAEError                     an SAE is missing, incompatible or of an unknown layout
    ├── GateError                    a gate cannot be fitted or read
    ├── PackError                    a pack is broken, or not for this model
    ├── EndpointError                a service that answers badly, or not at all
    ├── SearchError                  nothing is refused, or no candidate feature remains
    ├── OutputError                  a folder cannot be written, or holds another run
    │   └── SchemaError              a file was written by a newer version
    ├── CheckFailed                  `doctor` found something wrong
    └── MissingExtra                 an optional dependency is not installed

A message says what is wrong, what was got, what would be right, and what to type. The command
line prints it without a traceback and exits 2.
"""


class SternpostError(Exception):
    """What is wrong, what was got, what would be right, what to type."""


class InputError(SternpostError, ValueError):
    """An argument, setting or recipe key is wrong."""


class EditError(InputError):
    """An edit or a plan cannot be applied as asked."""


class PolicyError(InputError):
    """A response, a level or a rule that means nothing, or does not fit its gate."""


class PositionsError(InputError):
    """A position name that this call cannot resolve."""


class PromptFileError(InputError):
    """A prompt file is missing, unreadable or lacks a column."""


class LeakageError(SternpostError):
    """Something would be evaluated on what it was fitted on."""


class ModelError(SternpostError):
    """The model cannot be loaded or is not understood."""


class HookpointError(ModelError):
    """No such block, or no residual stream there."""


class TemplateError(ModelError):
    """The chat template fails, or marks nothing that we can find."""


class SAEError(SternpostError):
    """An SAE is missing, incompatible or of an unknown layout."""


class GateError(SternpostError):
    """A gate cannot be fitted or read."""


class PackError(SternpostError):
    """A pack is broken, or not for this model."""


class EndpointError(SternpostError):
    """A service that answers badly, or not at all."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status that settled it; None where it was given up after several tries."""

    @property
    def fatal(self) -> bool:
        """Whether every other request would meet it too: a bad key, model or address."""
        return self.status in (401, 403, 404)


class SearchError(SternpostError):
    """Nothing is refused, or no candidate feature remains."""


class OutputError(SternpostError):
    """A folder cannot be written, or holds another run."""


class SchemaError(OutputError):
    """A file was written by a newer version of sternpost."""


class CheckFailed(SternpostError):
    """`doctor` found something wrong."""


class MissingExtra(SternpostError):
    """An optional dependency is not installed: `MissingExtra("a Hub dataset", "datasets")`."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs a package that is not installed. "
                         f"Type: pip install 'sternpost[{extra}]'")
