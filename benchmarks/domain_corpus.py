"""LoRA on a domain corpus: a recipe by `distill run`, and the same run by PEFT and Transformers.

    python benchmarks/domain_corpus.py --distill target/release/distill --model MODEL_FOLDER \\
        --set data.train=train.csv --set data.validation=held_out.csv --output results

Both begin with one adapter, made by PEFT, and read the same sequences in the same order with the same learning rates, which
`distill plan --batches` writes. PyTorch's side is an ordinary loop: bf16 by `torch.autocast`, fused AdamW without decay of
vectors, gradients clipped, attention within each text by a mask, the loss an average over all tokens of the step. Perplexity
is measured on the held-out windows of the recipe, before and after. Each tool is a process of its own; `--order` says which
goes first. Dropout of the adapters is off, as no two programs draw the same numbers.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from peer import peak_memory_mib

IGNORED = -100


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recipes = Path(__file__).resolve().parent.parent / "recipes"
    parser.add_argument("--distill", default="distill", help="the binary")
    parser.add_argument("--recipe", default=str(recipes / "domain_lm_lora.toml"))
    parser.add_argument("--model", required=True, help="Hugging Face folder, in place of the recipe's `model.path`")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for `distill run`")
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16", help="what products multiply in")
    parser.add_argument("--base-dtype", choices=["f32", "bf16"], default="f32", help="how PEFT keeps the frozen weights")
    parser.add_argument("--order", default="peft,distill", help="who runs, in this order")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", required=True, help="folder for everything that is written")
    parser.add_argument("--peer", choices=["adapter", "train", "measure"], help=argparse.SUPPRESS)
    parser.add_argument("--adapter", help=argparse.SUPPRESS)
    return parser.parse_args()


# The recipe that both follow.


def with_settings(recipe, settings):
    """The recipe with `KEY=VALUE` laid over it: a value of TOML, or else a text."""
    for setting in settings:
        path, _, text = setting.partition("=")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *tables, key = path.split(".")
        table = recipe
        for name in tables:
            table = table.setdefault(name, {})
        table[key] = value
    return recipe


def to_toml(recipe):
    """Values first, then tables; JSON's texts, numbers, booleans and lists are TOML's too."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in recipe.items() if not isinstance(value, dict)]
    for name, table in recipe.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def read_recipe(args):
    recipe = with_settings(tomllib.loads(Path(args.recipe).read_text(encoding="utf-8")), args.set)
    recipe["model"] = {"path": args.model}
    recipe.setdefault("train", {})["dtype"] = args.dtype
    return recipe


def write_recipe(recipe, path, **changes):
    """A recipe that starts from the common adapter."""
    output = Path(path).with_suffix("")
    recipe = recipe | {"output_dir": str(output), "lora": {"adapter": str(output.parent / "adapter")}}
    recipe["train"] = recipe["train"] | changes
    Path(path).write_text(to_toml(recipe), encoding="utf-8")
    return output


# PEFT's side, in a process of its own.


def make_adapter(args):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    recipe = read_recipe(args)
    lora = recipe.get("lora", {})
    torch.manual_seed(recipe.get("seed", 42))
    config = LoraConfig(
        r=lora.get("r", 8),
        lora_alpha=lora.get("alpha", 16),
        lora_dropout=0.0,
        target_modules=lora.get("target_modules", "all-linear"),
        use_rslora=lora.get("use_rslora", False),
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32), config)
    model.save_pretrained(args.adapter)
    return {"trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad)}


class Peer:
    """A model with an adapter, and the lines of `distill plan --batches`."""

    def __init__(self, args, adapter, is_trainable):
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(args.threads)
        self.torch = torch
        self.bf16 = args.dtype == "bf16"
        dtype = torch.bfloat16 if args.base_dtype == "bf16" else torch.float32
        base = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
        self.model = PeftModel.from_pretrained(base, adapter, is_trainable=is_trainable)
        with open(Path(args.output) / "batches.jsonl", encoding="utf-8") as file:
            self.lines = [json.loads(line) for line in file]

    def rows(self, line, first, count):
        """Some rows of a line as tensors, with a mask `[batch, 1, seq, seq]` that keeps each text by itself."""
        torch = self.torch
        ids = torch.tensor(line["input_ids"][first : first + count])
        labels = torch.tensor(line["labels"][first : first + count])
        kept = torch.tensor(line["attention_mask"][first : first + count]).bool()
        batch, width = ids.shape
        positions = torch.arange(width).expand(batch, width)
        sees = torch.ones(width, width, dtype=torch.bool).tril().expand(batch, width, width)
        if "segment_ids" in line:
            positions = torch.tensor(line["position_ids"][first : first + count])
            segments = torch.tensor(line["segment_ids"][first : first + count])
            sees = sees & (segments[:, :, None] == segments[:, None, :])
        # A place that sees nothing would have no softmax: padding sees itself.
        sees = sees & kept[:, None, :] | torch.eye(width, dtype=torch.bool)
        return {"input_ids": ids, "position_ids": positions, "attention_mask": sees[:, None]}, labels

    def loss_sum(self, line, first, count):
        """Cross-entropy of some rows of a line, in nats, summed."""
        inputs, labels = self.rows(line, first, count)
        with self.torch.autocast("cpu", dtype=self.torch.bfloat16, enabled=self.bf16):
            logits = self.model(**inputs, use_cache=False).logits
        # Transformers' loss is in f32, too.
        return self.torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def perplexity(self):
        """On the held-out windows, and the number of tokens that it counts."""
        self.model.eval()
        total, tokens = 0.0, 0
        with self.torch.no_grad():
            for line in self.lines:
                if line.get("validation"):
                    total += self.loss_sum(line, 0, len(line["input_ids"])).item()
                    tokens += learnt(line)
        return math.exp(total / tokens), tokens


def learnt(line):
    return sum(label != IGNORED for row in line["labels"] for label in row)


def read_tokens(line):
    return sum(map(sum, line["attention_mask"]))


def train(args):
    peer = Peer(args, Path(args.output) / "adapter", is_trainable=True)
    torch, settings = peer.torch, read_recipe(args)["train"]
    before, tokens = peer.perplexity()
    peer.model.train()
    trained = [parameter for parameter in peer.model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": settings.get("weight_decay", 0.01)},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    betas = (settings.get("adam_beta1", 0.9), settings.get("adam_beta2", 0.999))
    optimizer = torch.optim.AdamW(groups, betas=betas, eps=settings.get("adam_epsilon", 1e-8), fused=True)
    max_norm, size = settings.get("max_grad_norm", 1.0), settings.get("batch_size", 32)
    steps = [line for line in peer.lines if "step" in line]
    losses, start = [], time.perf_counter()
    for line in steps:
        for group in optimizer.param_groups:
            group["lr"] = line["learning_rate"]
        count, total = learnt(line), 0.0
        for first in range(0, len(line["input_ids"]), size):
            loss = peer.loss_sum(line, first, size) / count
            loss.backward()
            total += loss.item()
        if max_norm > 0:
            torch.nn.utils.clip_grad_norm_(trained, max_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(total)
        print(f"peft: step {line['step']} of {len(steps)}, loss {total:.4f}", file=sys.stderr)
    seconds = time.perf_counter() - start
    after, _ = peer.perplexity()
    peer.model.save_pretrained(Path(args.output) / "peft")
    return {
        "before": before,
        "after": after,
        "held_out_tokens": tokens,
        "train_seconds": seconds,
        "tokens_per_second": sum(map(read_tokens, steps)) / seconds,
        "peak_memory_mib": peak_memory_mib(),
        "losses": losses,
    }


def measure(args):
    return {"after": Peer(args, args.adapter, is_trainable=False).perplexity()[0]}


# Both sides.


def run(command, threads):
    variables = dict(os.environ, OMP_NUM_THREADS=str(threads), HF_HUB_OFFLINE="1")
    start = time.time()
    # What it tells on the way goes to the caller's stderr.
    done = subprocess.run([str(word) for word in command], env=variables, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}")
    return done.stdout, time.time() - start


def run_peer(args, part, *words):
    command = [sys.executable, "-B", __file__, "--peer", part, "--recipe", args.recipe, "--model", args.model]
    command += ["--output", args.output, "--threads", args.threads, "--dtype", args.dtype, "--base-dtype", args.base_dtype]
    command += [word for setting in args.set for word in ("--set", setting)]
    stdout, seconds = run([*command, *words], args.threads)
    return json.loads(stdout.strip().splitlines()[-1]) | {"seconds": seconds}


def metrics(folder, kind):
    with open(folder / "metrics.jsonl", encoding="utf-8") as file:
        return [line for line in map(json.loads, file) if line["kind"] == kind]


def run_distill(args, recipe, steps):
    output = Path(args.output)
    threads = ["--threads", args.threads]
    # A step that changes nothing: the only way to measure an adapter as a run does.
    unchanged = write_recipe(recipe, output / "before.toml", max_steps=1, learning_rate=1e-30)
    run([args.distill, "run", output / "before.toml", "--overwrite", "--quiet", *threads], args.threads)
    folder = write_recipe(recipe, output / "distill.toml", logging_steps=1)
    _, seconds = run([args.distill, "run", output / "distill.toml", "--overwrite", *threads], args.threads)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    train_seconds = record["timings"]["train"]
    held_out = metrics(folder, "validation")[-1]
    return {
        "before": metrics(unchanged, "validation")[-1]["perplexity"],
        "after": held_out["perplexity"],
        "held_out_tokens": held_out["tokens"],
        "seconds": seconds,
        "train_seconds": train_seconds,
        "tokens_per_second": sum(map(read_tokens, steps)) / train_seconds,
        "peak_memory_mib": record["peak_memory_bytes"] / 2**20,
        "losses": [line["loss"] for line in metrics(folder, "train")],
    }


def markdown(results, checked):
    names = {"peft": "PEFT + Transformers", "distill": "distill"}
    rows = [["", *(names[name] for name in results), "relative"]]
    measures = [
        ("held-out perplexity before", "before", "{:.4f}"),
        ("held-out perplexity after", "after", "{:.4f}"),
        ("loss of the first step", "first", "{:.4f}"),
        ("loss of the last step", "last", "{:.4f}"),
        ("training, seconds", "train_seconds", "{:.1f}"),
        ("training, tokens/s", "tokens_per_second", "{:.1f}"),
        ("command to saved adapter, seconds", "seconds", "{:.1f}"),
        ("peak memory, MiB", "peak_memory_mib", "{:.0f}"),
    ]
    for title, key, form in measures:
        values = [
            {"first": result["losses"][0], "last": result["losses"][-1]}.get(key, result.get(key))
            for result in results.values()
        ]
        relative = "–"
        if len(results) == 2:
            peft, ours = ({name: value for name, value in zip(results, values)}[name] for name in names)
            differs = key in ("before", "after", "first", "last")
            relative = f"{100 * (ours / peft - 1):+.3f} %" if differs else f"{ours / peft:.2f} x"
        rows.append([title, *map(form.format, values), relative])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---|" + "---:|" * (len(rows[0]) - 1))
    if checked is not None:
        lines += ["", f"The adapter of `distill`, measured by PEFT: perplexity {checked:.4f}."]
    return "\n".join(lines) + "\n"


def compare(args):
    order = args.order.split(",")
    if unknown := set(order) - {"peft", "distill"}:
        sys.exit(f"unknown in `--order`: {', '.join(sorted(unknown))}; known are peft and distill")
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    made = run_peer(args, "adapter", "--adapter", output / "adapter")
    recipe = read_recipe(args)
    write_recipe(recipe, output / "distill.toml", logging_steps=1)
    batches = output / "batches.jsonl"
    run([args.distill, "plan", output / "distill.toml", "--batches", batches, "--quiet"], args.threads)
    with open(batches, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    steps = [line for line in lines if "step" in line]
    if len(steps) == len(lines):
        sys.exit("the recipe has no held-out texts: give `validation`, or a `validation_fraction` above 0")
    sides = {"peft": lambda: run_peer(args, "train"), "distill": lambda: run_distill(args, recipe, steps)}
    results = {name: sides[name]() for name in order}
    checked = None
    if "distill" in results:
        checked = run_peer(args, "measure", "--adapter", output / "distill")["after"]
    if len({result["held_out_tokens"] for result in results.values()}) > 1:
        sys.exit("the two tools counted different numbers of held-out tokens")
    tokens = sum(map(read_tokens, steps))
    heading = f"{len(steps)} steps, {tokens} tokens, {made['trainable_parameters']} trained parameters, {args.dtype} products, "
    heading += f"{args.threads} threads; {results[order[0]]['held_out_tokens']} held-out tokens.\n\n"
    text = heading + markdown(results, checked)
    print(text, end="")
    (output / "domain_corpus.md").write_text(text, encoding="utf-8")
    everything = {"settings": vars(args), "results": results, "distill_measured_by_peft": checked}
    (output / "domain_corpus.json").write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")


def main():
    args = arguments()
    parts = {"adapter": make_adapter, "train": train, "measure": measure}
    if args.peer:
        print(json.dumps(parts[args.peer](args)))
    else:
        compare(args)


if __name__ == "__main__":
    main()
