"""`distill` beside PyTorch, ONNX Runtime and the Transformers Trainer, on this machine, in one go.

Every measurement is a process of its own, so that peak memory is that of the one thing measured. All of them are run in
turn, for several rounds, and the medians over the rounds are told: what else the machine does then falls on all alike.

    python benchmarks/compare.py --distill target/release/distill --model MODEL_FOLDER
    python benchmarks/compare.py --only train --rounds 1 --steps 5
    python benchmarks/compare.py --only ag-news --data AG_NEWS_FOLDER

See the README beside this file.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHAPES = [(32, 128), (1, 32)]

RECIPE = """
name = "ag-news-comparison"
seed = {seed}
output_dir = {output}

[task]
kind = "classification"
labels = ["World", "Sports", "Business", "Sci/Tech"]

[model]
path = {model}

[data]
train = {train}
header = false
text = [1, 2]
label = 0
validation_fraction = 0.0
max_length = 128
cache_dir = {cache}

[train]
epochs = {epochs}
batch_size = 32
learning_rate = 1e-4
lr_scheduler_type = "linear"
warmup_ratio = 0.06
weight_decay = 0.01
max_grad_norm = 1.0
dtype = "{dtype}"
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = Path(os.environ.get("DISTILL_MODELS", Path.home() / ".cache/distill-models"))
    parser.add_argument("--distill", default="distill", help="the binary")
    parser.add_argument("--model", default=str(models / "all-minilm-l6-v2"), help="Hugging Face folder")
    parser.add_argument("--data", help="folder with train_10k.csv and test.csv of AG News; without it that part is left out")
    parser.add_argument("--only", default="train,predict,ag-news", help="which parts, comma-separated")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of training and prediction")
    parser.add_argument("--steps", type=int, default=12, help="training steps a measurement")
    parser.add_argument("--batches", type=int, default=60, help="batches a measurement of 32 x 128; ten times as many of 1 x 32")
    parser.add_argument("--ag-news-rounds", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=1.0, help="epochs of AG News")
    parser.add_argument("--max-steps", type=int, help="steps of AG News, for a trial")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peers", help="folder with another torch_step.py, which is run and told as it is")
    parser.add_argument("--output", help="folder for comparison.json and comparison.md")
    return parser.parse_args()


def run(command, threads, environment=None):
    """The last line of stdout, and the wall time in seconds."""
    variables = dict(os.environ, OMP_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="true", HF_HUB_OFFLINE="1")
    variables.update(environment or {})
    start = time.time()
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seconds = time.time() - start
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-3000:]}")
    return done.stdout, seconds


def run_json(command, threads, environment=None):
    stdout, seconds = run(command, threads, environment)
    try:
        return json.loads(stdout), seconds
    except json.JSONDecodeError:
        # Libraries may talk on stdout before the result.
        return json.loads(stdout.strip().splitlines()[-1]), seconds


class Comparison:
    """What was measured: for each case the values of every round."""

    def __init__(self, args):
        self.args = args
        self.values = {}

    def add(self, part, case, result):
        print(f"{part}: {case}: " + ", ".join(f"{key} {value:.5g}" for key, value in result.items()), file=sys.stderr)
        self.values.setdefault(part, {}).setdefault(case, []).append(result)

    def median(self, part, case, key):
        rounds = self.values.get(part, {}).get(case, [])
        found = [result[key] for result in rounds if result.get(key) is not None]
        return statistics.median(found) if found else None

    def distill(self, *words):
        return run_json([self.args.distill, *map(str, words), "--quiet", "--threads", str(self.args.threads)], self.args.threads)

    def script(self, name, *words, environment=None):
        command = [sys.executable, "-B", str(HERE / name), *map(str, words), "--threads", str(self.args.threads)]
        return run_json(command, self.args.threads, environment)

    def train(self):
        args = self.args
        for _ in range(args.rounds):
            for dtype in ["f32", "bf16"]:
                sizes = ["--dtype", dtype, "--batch", 16, "--length", 128, "--steps", args.steps, "--warmup", 3]
                result, _ = self.script("torch_train.py", *sizes)
                self.add("train", f"PyTorch {dtype}", pick(result, "examples_per_second", "peak_memory_mib"))
                # A new BERT of the same sizes, its own dropout of 0.1.
                result, _ = self.distill("bench", "train", *sizes, "--format", "json")
                self.add("train", f"distill {dtype}", pick(result, "examples_per_second", "peak_memory_mib"))
        if args.peers:
            stdout, _ = run([sys.executable, "-B", str(Path(args.peers) / "torch_step.py")], args.threads)
            print(stdout.strip(), file=sys.stderr)
            self.values["peers"] = stdout.strip().splitlines()[-1]

    def predict(self):
        args = self.args
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "model.onnx")
            command = [sys.executable, "-B", str(HERE / "torch_predict.py"), "--engine", "onnx", "--model", args.model]
            run([*command, "--onnx", file, "--export-only", "--threads", "1"], args.threads)
            for _ in range(args.rounds):
                for batch, length in SHAPES:
                    part = f"predict {batch} x {length}"
                    batches = args.batches * (10 if batch == 1 else 1)
                    sizes = ["--batch", batch, "--length", length, "--batches", batches, "--warmup", 10]
                    for engine, name, dtype in [
                        ("torch", "PyTorch f32", "f32"),
                        ("torch", "PyTorch bf16", "bf16"),
                        ("onnx", "ONNX Runtime f32", "f32"),
                    ]:
                        words = ["--engine", engine, "--dtype", dtype, "--model", args.model, "--onnx", file]
                        self.add(part, name, latencies(self.script("torch_predict.py", *words, *sizes)[0]))
                    for dtype in ["f32", "bf16"]:
                        words = ["--model", args.model, "--dtype", dtype, "--format", "json"]
                        self.add(part, f"distill {dtype}", latencies(self.distill("bench", "predict", *words, *sizes)[0]))

    def ag_news(self):
        args = self.args
        train, test = Path(args.data) / "train_10k.csv", Path(args.data) / "test.csv"
        for _ in range(args.ag_news_rounds):
            with tempfile.TemporaryDirectory() as folder:
                folder = Path(folder)
                words = ["--model", args.model, "--train", train, "--test", test, "--output", folder / "peer"]
                words += ["--dtype", "bf16", "--epochs", args.epochs, "--seed", args.seed]
                words += ["--max-steps", args.max_steps] if args.max_steps else []
                environment = {"BENCH_START": str(time.time()), "HF_DATASETS_CACHE": str(folder / "datasets")}
                result, _ = self.script("hf_trainer.py", *words, environment=environment)
                self.add("ag-news", "Transformers Trainer bf16", pick(result, "seconds", "accuracy", "peak_memory_mib"))
                for dtype in ["bf16", "f32"]:
                    self.add("ag-news", f"distill {dtype}", self.ag_news_run(folder / dtype, dtype, train, test))

    def ag_news_run(self, folder, dtype, train, test):
        args = self.args
        folder.mkdir()
        recipe, output = folder / "recipe.toml", folder / "model"
        text = RECIPE.format(
            seed=args.seed,
            output=json.dumps(str(output)),
            model=json.dumps(args.model),
            train=json.dumps(str(train)),
            cache=json.dumps(str(folder / "cache")),
            epochs=args.epochs,
            dtype=dtype,
        )
        recipe.write_text(text + (f"max_steps = {args.max_steps}\n" if args.max_steps else ""))
        threads = ["--threads", str(args.threads), "--quiet"]
        _, seconds = run([args.distill, "run", str(recipe), *threads], args.threads)
        record = json.loads((output / "run.json").read_text())
        scores = ["eval", output, "--data", test, "--json", "--batch-size", 64, "--dtype", dtype]
        result, _ = self.distill(*scores)
        peak = record["peak_memory_bytes"] / 2**20
        return {"seconds": seconds, "accuracy": result["accuracy"], "peak_memory_mib": peak}

    def markdown(self):
        lines = [f"- {key}: {value}" for key, value in self.machine().items()]
        if "train" in self.values:
            lines += ["", "Training step, BERT 6 x 384, batch 16 x 128, dropout 0.1, AdamW:", ""]
            lines += self.pairs("train", [("f32", "PyTorch f32", "distill f32"), ("bf16", "PyTorch bf16", "distill bf16")],
                                [("examples/s", "examples_per_second", "{:.1f}"), ("peak MiB", "peak_memory_mib", "{:.0f}")])
        if "peers" in self.values:
            lines += ["", f"`torch_step.py` of the peers: `{self.values['peers']}`"]
        for batch, length in SHAPES:
            part = f"predict {batch} x {length}"
            if part in self.values:
                lines += ["", f"Prediction, batch {batch} x {length}, milliseconds a batch:", ""]
                lines += self.predictions(part)
        if "ag-news" in self.values:
            lines += ["", f"AG News, 9,993 rows, {self.args.epochs:g} epoch, command to saved model:", ""]
            peer = "Transformers Trainer bf16"
            lines += self.pairs("ag-news", [("bf16", peer, "distill bf16"), ("f32 against bf16", peer, "distill f32")],
                                [("seconds", "seconds", "{:.1f}"), ("accuracy", "accuracy", "{:.4f}"), ("peak MiB", "peak_memory_mib", "{:.0f}")])
        return "\n".join(lines) + "\n"

    def pairs(self, part, pairs, columns):
        """A line for each pair, and for each column the peer's value, ours and ours over the peer's."""
        heading = [""] + [word for name, _, _ in columns for word in (f"peer, {name}", f"distill, {name}", "ratio")]
        rows = [heading]
        for name, peer, ours in pairs:
            row = [name]
            for _, key, form in columns:
                values = [self.median(part, case, key) for case in (peer, ours)]
                row += [form.format(value) if value is not None else "–" for value in values]
                row.append(f"{values[1] / values[0]:.2f}" if None not in values and values[0] else "–")
            rows.append(row)
        return table(rows)

    def predictions(self, part):
        peers = ["PyTorch f32", "PyTorch bf16", "ONNX Runtime f32"]
        rows = [["", "p50", "p99", "peak MiB", *(f"times {peer}, p50 / p99" for peer in peers)]]
        for case in [*peers, "distill f32", "distill bf16"]:
            p50, p99, peak = (self.median(part, case, key) for key in ("p50", "p99", "peak_memory_mib"))
            row = [case, f"{p50:.2f}", f"{p99:.2f}", f"{peak:.0f}"]
            for peer in peers:
                speedups = [self.median(part, peer, key) / self.median(part, case, key) for key in ("p50", "p99")]
                row.append(" / ".join(f"{speedup:.2f}" for speedup in speedups))
            rows.append(row)
        return table(rows)

    def machine(self, *packages):
        info = Path("/proc/cpuinfo")
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
        devices, _ = self.distill("inspect", "--device", "--format", "json")
        versions = {name: metadata.version(name) for name in packages or ["torch", "transformers", "onnxruntime"]}
        return {
            "processor": names[0] if names else platform.processor(),
            "cores": os.cpu_count(),
            "threads": self.args.threads,
            "instruction set": devices["instruction_set"],
            "peers": ", ".join(f"{name} {version}" for name, version in versions.items()),
            "rounds": self.args.rounds,
        }


def pick(result, *keys):
    return {key: result[key] for key in keys}


def latencies(result):
    found = pick(result, "examples_per_second", "peak_memory_mib")
    return {"p50": result["latency_ms"]["p50"], "p99": result["latency_ms"]["p99"], **found}


def table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 1) + (":" if column else "-") for column, width in enumerate(widths)) + "|"
    return [lines[0], rule, *lines[1:]]


def main():
    args = arguments()
    parts = args.only.split(",")
    comparison = Comparison(args)
    if unknown := set(parts) - {"train", "predict", "ag-news"}:
        sys.exit(f"unknown part {', '.join(sorted(unknown))}: known are train, predict and ag-news")
    if "train" in parts:
        comparison.train()
    if "predict" in parts:
        comparison.predict()
    if "ag-news" in parts and args.data:
        comparison.ag_news()
    text = comparison.markdown()
    print(text, end="")
    if args.output:
        output = Path(args.output)
        output.mkdir(parents=True, exist_ok=True)
        everything = {"machine": comparison.machine(), "settings": vars(args), "rounds": comparison.values}
        (output / "comparison.json").write_text(json.dumps(everything, indent=2) + "\n")
        (output / "comparison.md").write_text(text)


if __name__ == "__main__":
    main()
