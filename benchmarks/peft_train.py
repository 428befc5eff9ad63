"""A LoRA step of PEFT and Transformers, measured as `distill bench train` measures ours; prints one JSON object.

Random token ids without padding, the loss of every next token, adapters of `q_proj` and `v_proj`, fused AdamW over them,
gradients clipped to a norm of 1. The frozen weights are f32 under `torch.autocast`, or bf16 themselves.
"""

import argparse
import json
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from peer import peak_memory_mib


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="bf16", help="of products")
    parser.add_argument("--weights", choices=["f32", "bf16"], default="f32", help="of what is frozen")
    parser.add_argument("--r", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.weights]
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
    lora = LoraConfig(r=args.r, lora_alpha=2 * args.r, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)
    model.train()
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-4, weight_decay=0.01, fused=True)
    times = []
    for _ in range(args.warmup + args.steps):
        start = time.perf_counter()
        ids = torch.randint(0, model.config.vocab_size, (args.batch, args.length))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bf16"):
            loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    step = statistics.median(times[args.warmup :])
    result = {
        "tokens_per_second": args.batch * args.length / step,
        "step_ms": step * 1e3,
        "peak_memory_mib": peak_memory_mib(),
        "last_loss": loss.item(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
