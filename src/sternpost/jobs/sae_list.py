"""`sae list`: public SAEs that load_sae reads, those of chat models first. The table comes along;
nothing is fetched."""

import tomllib
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from sternpost.errors import InputError


@dataclass(frozen=True)
class PublicSAE:
    """A repository of SAEs, or several of one family. Empty: see the repository's page."""

    model: str
    repository: str
    """On the Hub; {a,b} stands for several."""
    ids: str
    """How one is named in it: `sae_id`. N stands for a layer."""
    layers: str
    kind: str
    width: str
    """Features."""
    chat: bool
    """Whether they were trained on a chat model's residual stream."""
    licence: str = ""
    note: str = ""


@dataclass(frozen=True)
class PublicSAEs:
    """What `sae_list` found."""

    saes: tuple[PublicSAE, ...]

    def to_pandas(self) -> Any:
        """A row an entry."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame([asdict(sae) for sae in self.saes])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


def sae_list(*, model: str | None = None) -> PublicSAEs:
    """Public SAEs, of chat models first; `model`: only those whose model's name holds this.

    Raises InputError where there are none.
    """
    text = resources.files("sternpost.sae").joinpath("public.toml").read_text("utf-8")
    saes = [PublicSAE(**entry) for entry in tomllib.loads(text)["sae"]]
    wanted = (model or "").rpartition("/")[2].lower()
    found = [sae for sae in saes if wanted in sae.model.lower()
             or wanted in sae.repository.lower()]
    if not found:
        models = sorted({sae.model for sae in saes})
        raise InputError(f"No public SAE of {model!r} is known here. Known: {'; '.join(models)}. "
                         "Train one: sternpost run --model ... without --sae.")
    return PublicSAEs(tuple(sorted(found, key=lambda sae: not sae.chat)))
