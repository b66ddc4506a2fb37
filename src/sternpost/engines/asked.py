"""What a `generate` was asked for."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sternpost.errors import EditError

_REFUSED = {"assistant_model": "assisted generation", "custom_generate": "custom generation loops",
            "prompt_lookup_num_tokens": "prompt-lookup decoding", "assistant_early_exit":
            "early-exit decoding", "penalty_alpha": "contrastive search", "dola_layers":
            "DoLa decoding"}


@dataclass(frozen=True)
class Asked:
    """What a `generate` was asked for, however it was spelled."""

    given: dict[str, Any]
    """Its arguments by name, positional ones too."""
    config: Any
    defaults: Any
    """The model's own generation config."""

    @classmethod
    def of(cls, model: Any, generate: Any, args: tuple[Any, ...],
           kwargs: dict[str, Any]) -> "Asked":
        """What `generate(*args, **kwargs)` asks for."""
        names = [name for name, parameter in inspect.signature(generate).parameters.items()
                 if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
        given = {**dict(zip(names, args)), **kwargs}  # noqa: B905 (too many is generate's to say)
        config = given.get("generation_config")
        return cls(given, model.generation_config if config is None else config,
                   model.generation_config)

    def setting(self, name: str) -> Any:
        """The value of an option: the argument, else the config's, else the model's own."""
        values = (self.given.get(name), getattr(self.config, name, None),
                  getattr(self.defaults, name, None))
        return next((value for value in values if value is not None), None)

    def check(self) -> None:
        """Raises EditError where it asks for what cannot be steered."""
        for name, what in _REFUSED.items():
            if self.setting(name) is not None:
                raise EditError(f"{what} ({name}=...) cannot be steered. Leave it out.")
        if self.setting("guidance_scale") not in (None, 1, 1.0):
            raise EditError("Classifier-free guidance (guidance_scale=...) runs the model on two "
                            "prompts at once and cannot be steered. Leave it out.")

    def stop_ids(self, device: Any) -> Tensor:
        """The ids that end a row. A row that another criterion ends shows only in the padding that
        it is fed afterwards; without one, padding may be a token like others."""
        ended = any(self.setting(name) for name in ("stopping_criteria", "stop_strings"))
        ids: list[int] = []
        for name in ("eos_token_id", "pad_token_id") if ended else ("eos_token_id",):
            value = self.setting(name)
            ids += value.flatten().tolist() if isinstance(value, Tensor) else \
                [value] if isinstance(value, int) else list(value or ())
        return torch.tensor(ids, dtype=torch.long, device=device)
