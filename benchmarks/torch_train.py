"""A training step of PyTorch, measured as `distill bench train` measures ours; prints one JSON object.

BERT 6 x 384 by default, random token ids without padding, four classes, the model's own dropout (0.1), bf16 by
`torch.autocast`, fused AdamW, gradients clipped to a norm of 1.
"""

import argparse
import json
import statistics
import time

import torch
from transformers import BertConfig, BertForSequenceClassification

from peer import peak_memory_mib


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=["f32", "bf16"], required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    config = BertConfig(
        vocab_size=30522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=4,
    )
    model = BertForSequenceClassification(config)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    times = []
    for _ in range(args.warmup + args.steps):
        start = time.perf_counter()
        ids = torch.randint(0, config.vocab_size, (args.batch, args.length))
        labels = torch.randint(0, config.num_labels, (args.batch,))
        mask = torch.ones_like(ids)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bf16"):
            loss = model(ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    step = statistics.median(times[args.warmup :])
    print(
        json.dumps(
            {
                "examples_per_second": args.batch / step,
                "step_ms": step * 1e3,
                "peak_memory_mib": peak_memory_mib(),
                "last_loss": loss.item(),
            }
        )
    )


if __name__ == "__main__":
    main()
