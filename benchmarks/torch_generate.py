"""Prompt processing and greedy decoding of Transformers, as `distill bench generate` measures ours; prints one JSON
object.

One text, random token ids, the default key/value cache and SDPA. A decoding rate is that of the tokens after the first:
the time of a generation less that of one with a single new token.
"""

import argparse
import json
import statistics
import time

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from peer import peak_memory_mib


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--dtype", choices=["f32", "bf16"], required=True)
    parser.add_argument("--prompt-length", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).eval()
    ids = torch.randint(0, model.config.vocab_size, (1, args.prompt_length))

    def prompt():
        model(ids, use_cache=True, logits_to_keep=1).logits.float().numpy()

    def generate(count):
        # Nothing ends a text early.
        config = GenerationConfig(do_sample=False, min_new_tokens=count, max_new_tokens=count, pad_token_id=0)
        return lambda: model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)

    with torch.inference_mode():
        result = {"tokens_per_second": args.prompt_length / median_seconds(prompt, args.repeats)}
        if args.new_tokens > 1:
            seconds = [median_seconds(generate(count), args.repeats) for count in (1, args.new_tokens)]
            result["decode_tokens_per_second"] = (args.new_tokens - 1) / (seconds[1] - seconds[0])
    print(json.dumps({**result, "peak_memory_mib": peak_memory_mib()}))


def median_seconds(work, repeats):
    """The first run is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
