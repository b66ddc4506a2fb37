"""`demo`: the inputs of the run on the model that comes with sternpost; no more than that."""

import json
from pathlib import Path

from sternpost.dinghy import demo_prompts
from sternpost.errors import InputError, OutputError
from sternpost.files import write_text
from sternpost.trials.run_settings import RunSettings

KINDS = ("unsafe", "safe", "capability", "corpus")


def demo_settings(*, out: str, seed: int, quick: bool, resume: bool, force: bool) -> RunSettings:
    """Writes `OUT/prompts` and gives the settings of the run on them.

    Raises OutputError where `out` holds something else and `force` is not asked for.
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"seed is a whole number; got {seed!r}.")
    folder = Path(out)
    texts = {kind: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
             for kind, rows in demo_prompts(quick).items()}
    files = {kind: folder / "prompts" / f"{kind}.jsonl" for kind in texts}
    if any(not file.is_file() or file.read_bytes() != texts[kind].encode()
           for kind, file in files.items()):
        if not force:
            _check_free(folder)
        for kind, file in files.items():
            write_text(file, texts[kind])
    unsafe, safe, capability, corpus = (str(files[kind]) for kind in KINDS)
    return RunSettings(model="dinghy", unsafe=unsafe, safe=safe, capability=capability,
                       corpus=corpus, out=out, seed=seed, resume=resume, force=force)


def _check_free(folder: Path) -> None:
    if folder.is_dir() and any(entry.name != "prompts" for entry in folder.iterdir()):
        raise OutputError(f"{folder} holds something else than this demo. Give another folder with "
                          "--out, or type --force to replace it.")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; --out names a folder. Type --out {folder}.run")
