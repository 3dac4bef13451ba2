"""Training steps and generation of the GPT beside its peers', interleaved in one run.

    pip install -c requirements.lock -e ".[text]"
    python benchmarks/gpt.py training [--rounds 15] [--steps 20] [--compile]
    python benchmarks/gpt.py generation [--rounds 5] [--tokens 200]
    python benchmarks/gpt.py losses --text tinyshakespeare.txt [--seeds 3]

The networks have 4 layers, 4 heads, 128 coordinates and a context of 64, over the characters of a text, and about 0.8
million parameters: nanoGPT's recipe for a CPU. A training step is a batch of 12 windows, forward, backward, clipping
and the optimiser's step. "plain" is a GPT written as one does from Radford et al. (2019) and trained as nanoGPT does
(fp32, learned positions, layer normalisation and GELU, AdamW); "transformers" is its `GPT2LMHeadModel`, trained by
AdamW too. In generation all have the same weights, and every round begins with one of 16 prompts of one token; "plain"
computes all of the window anew for every token. A round times every contender once, so that a busy minute hits all;
ratios are of medians. Losses are of the last tenth of a text's characters, in nats, after 2,000 steps over the others:
every contender sees as many tokens, by turns of a seed each.
"""

import argparse
import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from simulacra.data.text_set import TextSet, texts_of
from simulacra.models.gpt import GPT, GPTConfig, GPTNetwork
from simulacra.nn.transformer import Transformer
from simulacra.text.gpt2 import configuration, to_gpt2
from simulacra.text.sampling import Sampling, draw
from simulacra.training.batches import Batch
from simulacra.training.config import TrainingConfig
from simulacra.training.device import autocast, place
from simulacra.training.noise import Noise
from simulacra.training.optimizers import optimizers_of

VOCABULARY, CONTEXT, BATCH, WIDTH, LAYERS, HEADS = 66, 64, 12, 128, 4, 4
STEPS, WARMUP, RATE = 2000, 100, 0.005
DRAWN = 20
GPT2_LIKE = {"positions": "learned", "mlp": "gelu", "norm": "layer", "qk_norm": False, "bias": True}

Work = Callable[[], object]


class PlainBlock(nn.Module):
    """A pre-norm block by torch's own parts."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, t, width) to the same shape."""
        heads = [part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(self.norms[0](x)).chunk(3, -1)]
        seen = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norms[1](x))  # type: ignore[no-any-return]


class Plain(nn.Module):
    """GPT-2's layout without frills."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(PlainBlock() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                adds_up = name.endswith(("out.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS) if adds_up else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Map tokens (n, t) to logits (n, t, vocabulary)."""
        x = self.blocks(self.tokens(ids) + self.places(torch.arange(ids.shape[1])))
        return F.linear(self.norm(x), self.tokens.weight)


def windows(seed: int) -> Tensor:
    """Return one batch of tokens, (batch, context + 1)."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, VOCABULARY, (BATCH, CONTEXT + 1)))


def peer_step(net: nn.Module, loss: Callable[[Tensor], Tensor]) -> Work:
    """Return a training step as both peers have it."""
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    x = windows(0)

    def step() -> None:
        value = loss(x)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def own_step(config: GPTConfig, training: TrainingConfig, *, compiled: bool = False) -> Work:
    """Return a training step in the precision that the loop would choose."""
    network = GPTNetwork(config, VOCABULARY)
    _, precision = place(network, training)
    (update,) = network.updates()
    optimizers = optimizers_of(update, training)
    batch = Batch(windows(0), None, 0, Noise(0))
    loss = torch.compile(update.loss) if compiled else update.loss

    def step() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        with autocast(precision, torch.device("cpu")):
            value = loss(batch)["loss"]
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(update.parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()

    return step


def trainings(*, compiled: bool) -> dict[str, Work]:
    """Return a training step of every contender."""
    torch.manual_seed(0)
    plain = Plain()
    theirs = GPT2LMHeadModel(GPT2Config(**configuration(Transformer(**_sizes(), **GPT2_LIKE)))).train()  # type: ignore[arg-type]
    sizes = {"context": CONTEXT, "width": WIDTH, "layers": LAYERS, "heads": HEADS}
    adamw, muon = (TrainingConfig(device="cpu", optimizer=each, weight_decay=0.1) for each in ("adamw", "muon"))  # type: ignore[arg-type]
    fp32 = adamw.model_copy(update={"precision": "fp32"})
    found = {
        "ours": own_step(GPTConfig(**sizes), muon),  # type: ignore[arg-type]
        "ours, AdamW": own_step(GPTConfig(**sizes), adamw),  # type: ignore[arg-type]
        "ours, GPT-2's layout, AdamW, fp32": own_step(GPTConfig(**sizes, **GPT2_LIKE), fp32),  # type: ignore[arg-type]
        "plain": peer_step(plain, lambda x: F.cross_entropy(plain(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())),
        "transformers": peer_step(theirs, lambda x: theirs(input_ids=x[:, :-1], labels=x[:, :-1]).loss),
    }
    if compiled:
        found["ours, compiled"] = own_step(GPTConfig(**sizes), muon, compiled=True)  # type: ignore[arg-type]
        found["ours, AdamW, compiled"] = own_step(GPTConfig(**sizes), adamw, compiled=True)  # type: ignore[arg-type]
        plain_loss = torch.compile(lambda x: F.cross_entropy(plain(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten()))
        found["plain, compiled"] = peer_step(plain, plain_loss)
    return found


def generations(tokens: int, n: int) -> dict[str, Work]:
    """Return what draws so many tokens for n texts by every contender, all with the same weights."""
    torch.manual_seed(0)
    network = Transformer(**_sizes(context=256), **GPT2_LIKE).eval()  # type: ignore[arg-type]
    theirs = GPT2LMHeadModel(GPT2Config(**configuration(network))).eval()
    theirs.load_state_dict(to_gpt2(network))
    prompts, uniforms = torch.zeros(n, 1, dtype=torch.long), torch.rand(n, tokens)
    options = {"do_sample": True, "top_k": 0, "min_new_tokens": tokens, "max_new_tokens": tokens, "pad_token_id": 0}

    @torch.inference_mode()
    def ours() -> Tensor:
        return draw(network, prompts, uniforms, Sampling(), stops=lambda text: False)

    @torch.inference_mode()
    def plain() -> Tensor:
        text = prompts
        for _ in range(tokens):
            chances = network(text[:, -network.context :])[:, -1].softmax(-1)
            text = torch.cat([text, torch.multinomial(chances, 1)], dim=1)
        return text

    mask = torch.ones_like(prompts)
    return {
        "ours": ours,
        "plain": plain,
        "transformers": lambda: theirs.generate(prompts, attention_mask=mask, **options),
    }


def _sizes(context: int = CONTEXT) -> dict[str, int]:
    return {"vocabulary": VOCABULARY, "context": context, "width": WIDTH, "layers": LAYERS, "heads": HEADS}


def race(entrants: dict[str, Work], *, rounds: int, repeats: int, unit: float, title: str) -> None:
    """Time every contender once a round, after a first time that does not count; print medians and ratios.

    Args:
        entrants: what is timed.
        rounds: how often.
        repeats: pieces of work that are timed as one.
        unit: tokens a piece.
        title: what heads the table.
    """
    spent: dict[str, list[float]] = {name: [] for name in entrants}
    for number in range(rounds + 1):
        for name, work in entrants.items():
            began = time.perf_counter()
            for _ in range(repeats):
                work()
            if number:
                spent[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(times) for name, times in spent.items()}
    print(f"| {title} | tokens/s | × plain | × transformers |")
    print("|---|---|---|---|")
    for name, median in medians.items():
        ratios = (f"{medians[peer] / median:.2f}" for peer in ("plain", "transformers"))
        print(f"| {' | '.join([name, f'{unit * repeats / median:,.0f}', *ratios])} |", flush=True)


def halves(path: Path) -> tuple[TextSet, TextSet]:
    """Return a text's first nine tenths and its last, each with the alphabet of both."""
    text = path.read_text(encoding="utf-8")
    alphabet, border = texts_of([text]).alphabet, int(0.9 * len(text))
    first, last = (dataclasses.replace(texts_of([part]), alphabet=alphabet) for part in (text[:border], text[border:]))
    return first, last


def train_plain(train: Tensor, seed: int) -> Plain:
    """Train as nanoGPT's recipe for a CPU does: windows from anywhere, AdamW, a cosine to a tenth of the rate."""
    torch.manual_seed(seed)
    net, generator = Plain(), torch.Generator().manual_seed(seed)
    groups = [
        {"params": [p for p in net.parameters() if p.ndim == 2], "weight_decay": 0.1},
        {"params": [p for p in net.parameters() if p.ndim != 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, 1e-3, betas=(0.9, 0.99))
    for step in range(STEPS):
        cosine = 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (step + 1) / (WARMUP + 1) if step < WARMUP else 1e-4 + 9e-4 * cosine
        starts = torch.randint(len(train) - CONTEXT, (BATCH,), generator=generator)
        x = torch.stack([train[start : start + CONTEXT + 1] for start in starts])
        F.cross_entropy(net(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return net


@torch.no_grad()
def held_out(net: nn.Module, ids: Tensor) -> tuple[float, float]:
    """Return the mean cross-entropy of all windows that do not overlap, in nats a token, and that of few windows.

    The second number is the standard deviation of the mean of so many windows as nanoGPT's recipe draws for it.
    """
    count = (len(ids) - 1) // CONTEXT
    x, y = (ids[shift : shift + count * CONTEXT].view(count, CONTEXT) for shift in (0, 1))
    logits = torch.cat([net.eval()(part) for part in x.split(128)])
    each = F.cross_entropy(logits.mT, y, reduction="none").mean(1)
    return float(each.mean()), float(each.std() / math.sqrt(DRAWN * BATCH))


def losses(path: Path, *, seeds: int) -> None:
    """Train every contender, seed by seed; print parameters, seconds and losses."""
    train, last = halves(path)
    sizes = {"tokenizer": "character", "context": CONTEXT, "width": WIDTH, "layers": LAYERS, "heads": HEADS}
    common = {"steps": STEPS, "batch_size": BATCH, "weight_decay": 0.1, "validate_every": STEPS, "device": "cpu"}
    theirs = TrainingConfig(**common, learning_rate=1e-3, final_rate=0.1, warmup_steps=WARMUP)  # type: ignore[arg-type]
    own = TrainingConfig(**common, optimizer="muon", learning_rate=RATE, warmup_steps=50)  # type: ignore[arg-type]
    like_gpt2 = sizes | GPT2_LIKE | {"bias": False}
    found: dict[str, list[tuple[float, float]]] = {}
    print("| losses | seed | parameters | seconds | loss | ± of 20 batches |\n|---|---|---|---|---|---|")
    for seed in range(seeds):
        for name, layout, training in (
            ("plain, nanoGPT's recipe", None, None),
            ("ours, nanoGPT's recipe", like_gpt2, theirs),
            ("ours", sizes, own),
        ):
            began = time.perf_counter()
            model = GPT(GPTConfig(**(layout or sizes)))  # type: ignore[arg-type]
            if training:
                model.fit(train, training=training, seed=seed)
                net: nn.Module = model.network.net
            else:
                model.remember(train)
                net = train_plain(_ids(model, train), seed)
            seconds = time.perf_counter() - began
            (loss, spread), size = held_out(net, _ids(model, last)), sum(p.numel() for p in net.parameters())
            found.setdefault(name, []).append((seconds, loss))
            print(f"| {name} | {seed} | {size:,} | {seconds:.0f} | {loss:.3f} | {spread:.3f} |", flush=True)
    for name, rows in found.items():
        means = [statistics.mean(column) for column in zip(*rows, strict=True)]
        print(f"| {name} | mean | | {means[0]:.0f} | {means[1]:.3f} | |", flush=True)


def _ids(model: GPT, texts: TextSet) -> Tensor:
    return torch.from_numpy(model.examples(texts).ids[:].astype(np.int64))


def main() -> None:
    """Read the options and race."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["training", "generation", "losses"])
    parser.add_argument("--text", type=Path)
    for name, default in (("rounds", 15), ("steps", 20), ("tokens", 200), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    if options.what == "losses":
        losses(options.text or parser.error("losses need --text"), seeds=options.seeds)
        return
    if options.what == "training":
        entrants = trainings(compiled=options.compile)
        race(entrants, rounds=options.rounds, repeats=options.steps, unit=BATCH * CONTEXT, title="training")
        return
    for n in (1, 16):
        entrants = generations(options.tokens, n)
        race(entrants, rounds=options.rounds, repeats=1, unit=n * options.tokens, title=f"generation, {n} at once")


if __name__ == "__main__":
    main()
