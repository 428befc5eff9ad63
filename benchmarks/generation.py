"""`distill` beside Transformers, PEFT and llama.cpp: reading a prompt, greedy decoding, a LoRA step.

As in `compare.py` every measurement is a process of its own, all of them in turn, for several rounds, and the medians
over the rounds are told.

    python benchmarks/generation.py --distill target/release/distill --model SMOLLM2_FOLDER
    python benchmarks/generation.py --only decode --rounds 1

llama.cpp is left out where `llama-cpp-python` is not installed.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path

from compare import Comparison, pick, table

PROMPT, DECODE_PROMPT, NEW_TOKENS = 512, 32, 128
BATCH, LENGTH, RANK = 4, 512, 8
PARTS = ["prompt", "decode", "lora"]
RATES = {"prompt": "tokens_per_second", "decode": "decode_tokens_per_second", "lora": "tokens_per_second"}
TITLES = {
    "prompt": f"Reading a prompt of {PROMPT} tokens:",
    "decode": f"Greedy decoding, {NEW_TOKENS} tokens after {DECODE_PROMPT}, one text:",
    "lora": f"LoRA step, r {RANK} of `q_proj` and `v_proj`, batch {BATCH} x {LENGTH}, AdamW:",
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = Path(os.environ.get("DISTILL_MODELS", Path.home() / ".cache/distill-models"))
    parser.add_argument("--distill", default="distill", help="the binary")
    parser.add_argument("--model", default=str(models / "smollm2-135m-instruct"), help="Hugging Face folder")
    parser.add_argument("--only", default=",".join(PARTS), help="which parts, comma-separated")
    parser.add_argument("--dtypes", default="bf16,f32", help="which precisions, comma-separated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="texts a measurement, after one that is not counted")
    parser.add_argument("--steps", type=int, default=5, help="training steps a measurement")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", help="folder for generation.json and generation.md")
    return parser.parse_args()


class Generation(Comparison):
    def texts(self, part, sizes, gguf):
        """The same of prompts and of decoding."""
        args = self.args
        keys = (RATES[part], "peak_memory_mib")
        for dtype in args.dtypes.split(","):
            words = ["--model", args.model, "--dtype", dtype, *sizes]
            result, _ = self.script("torch_generate.py", *words, "--repeats", args.repeats)
            self.add(part, f"Transformers {dtype}", pick(result, *keys))
            if gguf and dtype == "bf16":
                words_of_gguf = ["--model", args.model, "--gguf", gguf, "--repeats", args.repeats, *sizes]
                result, _ = self.script("llama_cpp_generate.py", *words_of_gguf)
                self.add(part, "llama.cpp bf16", pick(result, *keys))
            result, _ = self.distill("bench", "generate", *words, "--rounds", args.repeats, "--format", "json")
            self.add(part, f"distill {dtype}", pick(result, *keys))

    def lora(self):
        args = self.args
        keys = ("tokens_per_second", "peak_memory_mib")
        sizes = ["--model", args.model, "--batch", BATCH, "--length", LENGTH, "--steps", args.steps, "--warmup", 1]
        for dtype in args.dtypes.split(","):
            cases = [("f32", f"PEFT {dtype}")]
            if dtype == "bf16":
                cases.append(("bf16", "PEFT bf16, weights too"))
            for weights, name in cases:
                words = ["--dtype", dtype, "--weights", weights, "--r", RANK]
                result, _ = self.script("peft_train.py", *sizes, *words)
                self.add("lora", name, pick(result, *keys))
            words = ["--dtype", dtype, "--lora-r", RANK, "--lora-target-modules", "q_proj,v_proj", "--format", "json"]
            result, _ = self.distill("bench", "train", *sizes, *words)
            self.add("lora", f"distill {dtype}", pick(result, *keys))

    def markdown(self):
        lines = [f"- {key}: {value}" for key, value in self.machine("torch", "transformers", "peft").items()]
        for part in PARTS:
            if part in self.values:
                lines += ["", TITLES[part], "", *self.cases(part)]
        return "\n".join(lines) + "\n"

    def cases(self, part):
        """A line for each case; ours are told as multiples of the peers of the same precision."""
        rows = [["", "tokens/s", "peak MiB", "distill's speed", "distill's memory"]]
        for case in self.values[part]:
            rate, peak = (self.median(part, case, key) for key in (RATES[part], "peak_memory_mib"))
            row = [case, f"{rate:,.1f}", f"{peak:,.0f}"]
            ours = f"distill {'bf16' if 'bf16' in case else 'f32'}"
            if case == ours:
                row += ["", ""]
            else:
                row.append(f"{self.median(part, ours, RATES[part]) / rate:.2f}")
                row.append(f"{self.median(part, ours, 'peak_memory_mib') / peak:.2f}")
            rows.append(row)
        return table(rows)


def main():
    args = arguments()
    parts = args.only.split(",")
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"unknown part {', '.join(sorted(unknown))}: known are {', '.join(PARTS)}")
    generation = Generation(args)
    with tempfile.TemporaryDirectory() as folder:
        gguf = str(Path(folder) / "model.gguf") if importlib.util.find_spec("llama_cpp") else None
        if not gguf:
            print("llama.cpp is left out: `llama-cpp-python` is not installed", file=sys.stderr)
        for _ in range(args.rounds):
            if "prompt" in parts:
                generation.texts("prompt", ["--prompt-length", PROMPT, "--new-tokens", 1], gguf)
            if "decode" in parts:
                sizes = ["--prompt-length", DECODE_PROMPT, "--new-tokens", NEW_TOKENS]
                generation.texts("decode", sizes, gguf)
            if "lora" in parts:
                generation.lora()
    text = generation.markdown()
    print(text, end="")
    if args.output:
        output = Path(args.output)
        output.mkdir(parents=True, exist_ok=True)
        machine = generation.machine("torch", "transformers", "peft")
        everything = {"machine": machine, "settings": vars(args), "rounds": generation.values}
        (output / "generation.json").write_text(json.dumps(everything, indent=2) + "\n")
        (output / "generation.md").write_text(text)


if __name__ == "__main__":
    main()
