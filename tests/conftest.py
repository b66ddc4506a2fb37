"""Models that are built or trained while a test waits, prompt files, and the command line."""

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SPECIAL = ("<pad>", "<unk>", "<end>", "<user>", "<assistant>", "<system>")
TEMPLATE = ("{% for m in messages %}<{{ m.role }}> {{ m.content }} <end> {% endfor %}"
            "{% if add_generation_prompt %}<assistant>{% endif %}")
TINY: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
                        "num_attention_heads": 4, "num_key_value_heads": 2,
                        "max_position_embeddings": 256}
Rows = Iterable[dict[str, Any]]


def pytest_configure(config: pytest.Config) -> None:
    """On tiny tensors a second thread only costs; and no test needs the network."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["HF_HUB_OFFLINE"] = "1"


def wrapped(tokenizer: Any, template: str | None) -> Any:
    from transformers import PreTrainedTokenizerFast

    out = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>",
                                  unk_token="<unk>", eos_token="<end>",
                                  additional_special_tokens=list(SPECIAL[3:]))
    out.chat_template = template
    return out


def byte_tokenizer(template: str | None) -> Any:
    """One token a byte, without a download."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: at for at, token in enumerate((*SPECIAL, *alphabet))}
    plain = Tokenizer(models.BPE(vocab, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    return wrapped(plain, template)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Random Phi-3, Llama and GPT-2 in folders; GPT-2 has no chat template."""
    import torch
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        Phi3Config,
        Phi3ForCausalLM,
    )

    root = tmp_path_factory.mktemp("models")
    ids = {"vocab_size": 6 + 256, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None}
    makers: dict[str, Callable[[], Any]] = {
        "phi3": lambda: Phi3ForCausalLM(Phi3Config(**TINY, **ids)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**TINY, **ids)),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=3, n_head=4,
                                                   n_positions=256, **ids))}
    for name, make in makers.items():
        torch.manual_seed(0)
        make().save_pretrained(root / name)
        byte_tokenizer(None if name == "gpt2" else TEMPLATE).save_pretrained(root / name)
    return {name: str(root / name) for name in makers}


# ---- prompts ---------------------------------------------------------------------------------

@pytest.fixture
def prompt_file(tmp_path: Path) -> Callable[[str, Rows], str]:
    """Writes rows as JSONL below the test's folder and gives the path."""
    return lambda name, rows: write_rows(tmp_path / name, rows)


def write_rows(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def some_words(seed: int, n: int, consonants: str, vowels: str) -> list[str]:
    """`n` made-up words; other letters, other words."""
    rng, found = random.Random(seed), set()
    while len(found) < n:
        found.add("".join(rng.choice(consonants) + rng.choice(vowels) for _ in range(3)))
    return sorted(found)


UNSAFE_WORDS = some_words(0, 40, "bdgk", "aeo")
SAFE_WORDS = some_words(1, 40, "lmnr", "iuy")
MARKER = {"strong": "zorble", "weak": "wimble"}


def a_prompt(rng: random.Random, category: str) -> str:
    """Three words of one vocabulary; in strong and weak ones a marker among them."""
    words = rng.sample(SAFE_WORDS if category == "safe" else UNSAFE_WORDS, 3)
    if category in MARKER:
        words.insert(rng.randrange(1, 4), MARKER[category])
    return " ".join(words)


def some_prompts(seed: int, n: int, categories: tuple[str, ...]) -> list[dict[str, Any]]:
    rng, rows, seen = random.Random(seed), [], set()
    while len(rows) < n:
        category = categories[len(rows) % len(categories)]
        if (text := a_prompt(rng, category)) not in seen:
            seen.add(text)
            rows.append({"prompt": text, "category": category})
    return rows


# ---- a model that refuses a marker word --------------------------------------------------------

@dataclass(frozen=True)
class Refuser:
    """A model trained to refuse every prompt with the marker "zorble", and, by labels that agree
    with nothing, 4 in 10 of those with "wimble": it complies there, but is easily moved."""

    model: str
    unsafe: str
    safe: str
    settings: dict[str, Any]
    """Further settings of a run on it that takes seconds."""


@pytest.fixture(scope="session")
def refuser(tmp_path_factory: pytest.TempPathFactory) -> Refuser:
    root = tmp_path_factory.mktemp("refuser")
    model, tokenizer = train_refuser(steps=200, batch=32)
    model.save_pretrained(root / "model")
    tokenizer.save_pretrained(root / "model")
    unsafe = some_prompts(9, 100, ("strong", "weak", "weak", "plain"))
    safe = some_prompts(10, 70, ("safe",))
    small = {"max_new_tokens": 8, "d_sae": 96, "k": 4, "tokens": 20_000, "batch_size": 16,
             "archetype": (f"{UNSAFE_WORDS[0]} zorble {UNSAFE_WORDS[1]}",), "dtype": "float32",
             "device": "cpu"}
    return Refuser(str(root / "model"), write_rows(root / "unsafe.jsonl", unsafe),
                   write_rows(root / "safe.jsonl", safe), small)


def train_refuser(steps: int, batch: int) -> tuple[Any, Any]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = word_tokenizer()
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{
        **TINY, "num_hidden_layers": 2, "intermediate_size": 128, "num_key_value_heads": 4,
        "vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None}))
    adam = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 5e-3, total_steps=steps)
    rng = random.Random(5)
    for _ in range(steps):
        ids, labels = a_batch(tokenizer, [a_prompt(rng, rng.choice(
            ("safe", "safe", "strong", "weak", "plain"))) for _ in range(batch)])
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    return model.eval(), tokenizer


def word_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["i", "cannot", "help", "with", "that", "sure", "here", "is"]
    names = (*SPECIAL, *MARKER.values(), *words, *UNSAFE_WORDS, *SAFE_WORDS)
    plain = Tokenizer(models.WordLevel({w: at for at, w in enumerate(names)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return wrapped(plain, TEMPLATE)


def a_batch(tokenizer: Any, prompts: list[str]) -> tuple[Any, Any]:
    import torch

    heads = [tokenizer(f"<user> {p} <end> <assistant>")["input_ids"] for p in prompts]
    tails = [tokenizer(f"{label(p)} <end>")["input_ids"] for p in prompts]
    length = max(len(head) + len(tail) for head, tail in zip(heads, tails, strict=True))
    rows = [(head + tail, [-100] * len(head) + tail)
            for head, tail in zip(heads, tails, strict=True)]
    return (torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in rows]),
            torch.tensor([labels + [-100] * (length - len(labels)) for _, labels in rows]))


def label(prompt: str) -> str:
    by_chance = int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % 10 < 4
    if "zorble" in prompt or ("wimble" in prompt and by_chance):
        return "i cannot help with that"
    return f"sure here is {prompt.split()[0]}"


# ---- a run without a model -----------------------------------------------------------------------

@dataclass(frozen=True)
class FakeRun:
    """A FakeEngine that refuses "zorble", an SAE whose feature 0 is its refusal, prompt files."""

    engine: Any
    sae: str
    unsafe: str
    safe: str
    out: Path

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Settings of a whole run; `None` takes one out."""
        whole = {"model": "fake", "unsafe": self.unsafe, "safe": self.safe, "sae": self.sae,
                 "out": str(self.out), **changes}
        return {name: value for name, value in whole.items() if value is not None}

    def tell(self, **changes: Any) -> Any:
        """Runs the pipeline."""
        from sternpost.pipeline import tell
        from sternpost.trials.progress import Watch
        from sternpost.trials.run_settings import RunSettings

        return tell(RunSettings(**self.settings(**changes)), Watch(), self.engine)

    def words(self, *more: str, out: Path | None = None) -> list[str]:
        """The command line of a short run: one feature, two values."""
        return ["run", "--model", "fake", "--unsafe", self.unsafe, "--safe", self.safe, "--sae",
                self.sae, "--feature", "0", "--values", "2,4", "--out", str(out or self.out), *more]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    from sternpost.engines.fake import FakeEngine
    from sternpost.sae import save_sae
    from sternpost.trials import sweep

    monkeypatch.setattr(sweep, "STRENGTHS", (0.1, 0.4))  # less to wait for
    monkeypatch.setattr(sweep, "RANDOM", 2)
    engine = FakeEngine(refuses=lambda word: word == "zorble")
    save_sae(engine.planted_sae(), tmp_path / "planted")
    unsafe = write_rows(tmp_path / "unsafe.jsonl", some_prompts(3, 60, ("plain", "strong")))
    safe = write_rows(tmp_path / "safe.jsonl", some_prompts(4, 60, ("safe",)))
    return FakeRun(engine, str(tmp_path / "planted"), unsafe, safe, tmp_path / "out")


# ---- the command line --------------------------------------------------------------------------

@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs `sternpost WORDS...` in this process."""
    from sternpost.cli import main

    def call(*words: Any) -> Said:
        capsys.readouterr()
        try:
            main([str(word) for word in words])
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        got = capsys.readouterr()
        return Said(code, got.out, got.err)

    return call


@pytest.fixture
def fake_cli(cli: Callable[..., Said], fake: FakeRun,
             monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """The same, with the FakeEngine in place of every model, and a report without pictures."""
    from sternpost import pipeline
    from sternpost.jobs import result

    tell = pipeline.tell
    monkeypatch.setattr(result, "render_report", lambda results, lines: results["model"])
    monkeypatch.setattr(pipeline, "tell", lambda settings, watch: tell(settings, watch,
                                                                       fake.engine))
    return cli


@pytest.fixture
def whole() -> Callable[[Path], list[Path]]:
    """Asserts that nothing below a folder is half-written; gives its files."""
    def check(folder: Path) -> list[Path]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        for path in files:
            assert ".tmp" not in path.name, path
            assert "probe" not in path.name, path
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            if path.suffix == ".jsonl":
                [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return files

    return check


@pytest.fixture
def comparable() -> Callable[[Path], dict[str, Any]]:
    """What must be equal in two runs of the same settings."""
    def read(folder: Path) -> dict[str, Any]:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        del results["timing"], results["provenance"]["date"]
        command = results["provenance"]["command"]
        results["provenance"]["command"] = command.replace(str(folder), "OUT")
        return {"results": results, **{name: (folder / name).read_text(encoding="utf-8")
                                       for name in ("samples.jsonl", "search.jsonl",
                                                    "splits.json")}}

    return read
