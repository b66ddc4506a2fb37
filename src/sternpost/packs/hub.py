"""Packs on the Hub: fetched by their id, pushed with a README.md that is their card."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sternpost.errors import EndpointError, InputError, PackError
from sternpost.store import PackFiles, pack_bytes
from sternpost.store.packs import FILES
from sternpost.trials.load import packed_folder

TAGS = ("sternpost", "steering", "refusal", "sparse-autoencoder")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def pack_folder(name: str, revision: str | None = None) -> Path:
    """Where a pack lies: its folder, that of one that ships with sternpost, or, for a Hub id, the
    Hub's cache, to which no more is fetched than a pack's own files. Raises PackError."""
    path = packed_folder(name, "pack").expanduser()
    if path.exists() or name.startswith((".", "/", "~")) or not HUB_ID.fullmatch(name):
        if revision is not None:
            raise InputError(f"A revision is of a pack on the Hub; {name} names a folder or a pack "
                             "that ships with sternpost. Leave the revision out.")
        return path
    from huggingface_hub import snapshot_download  # HTTP: only where one is needed

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:
        raise PackError(f"No pack in a folder {name}, and the Hub gives none by that name"
                        f"{'' if revision is None else f' at revision {revision}'}: "
                        f"{_first_line(error)} Give a folder, or check HF_ENDPOINT and "
                        "HF_HUB_OFFLINE.") from error


def push(pack: PackFiles, repo_id: str, private: bool, token: str | None) -> str:
    """Uploads a pack's files and its README.md in one commit; gives that commit's address."""
    if not HUB_ID.fullmatch(repo_id):
        raise InputError(f"A pack is pushed to a Hub id such as org/name; got {repo_id!r}.")
    files = {**pack_bytes(pack), "README.md": readme(pack.body, pack.card, repo_id).encode()}
    from huggingface_hub import CommitOperationAdd, HfApi  # as above

    operations: list[Any] = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data)
                             for name, data in files.items()]
    try:
        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        done = api.create_commit(repo_id, operations,
                                 commit_message=f"sternpost pack {pack.sha256[:16]}")
    except Exception as error:
        raise EndpointError(f"The Hub did not take the pack as {repo_id}: {_first_line(error)} "
                            "Check the token (hf auth login), HF_ENDPOINT and HF_HUB_OFFLINE, and "
                            "push again.") from error
    return done.commit_url


def readme(body: Mapping[str, Any], card: str, repo_id: str) -> str:
    """The card with the Hub's front matter: tags, library and, where it is on the Hub, model."""
    from huggingface_hub import ModelCardData  # as above

    source = body["model"]["source"].partition("@")[0]
    hub = HUB_ID.fullmatch(source) and not Path(source).exists()
    data = ModelCardData(base_model=source if hub else None, library_name="sternpost",
                         tags=list(TAGS))
    return f"---\n{data.to_yaml().strip()}\n---\n\n{card.replace('THIS FOLDER', repo_id)}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
