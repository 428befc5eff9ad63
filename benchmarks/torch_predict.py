"""Forward passes of PyTorch or of ONNX Runtime, measured as `distill bench predict` measures ours; prints one JSON
object.

Times are from token ids in a NumPy array to logits in another. The ONNX model is exported from the same weights, and
its logits are compared with PyTorch's before anything is measured.
"""

import argparse
import json
import os
import tempfile
import time
import warnings

import numpy as np

from peer import peak_memory_mib, quantile


def torch_model(path):
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(path, num_labels=4).eval()


def torch_forward(path, dtype, threads):
    """PyTorch in inference mode; bf16 is autocast, as in training."""
    import torch

    torch.set_num_threads(threads)
    model = torch_model(path)

    def forward(ids, mask):
        ids, mask = torch.from_numpy(ids), torch.from_numpy(mask)
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            return model(ids, attention_mask=mask).logits.float().numpy()

    return forward


def export(path, file):
    """Writes the model with free batch and length, and example inputs and logits beside it."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask):
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    # The exporter puts the mode of training back to what the wrapper had.
    model = Logits(torch_model(path)).eval()
    ids = torch.randint(0, 30000, (2, 16))
    mask = torch.ones_like(ids)
    names = ["input_ids", "attention_mask"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (ids, mask),
            file,
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
            dynamo=False,
            opset_version=17,
        )
    with torch.inference_mode():
        logits = model(ids, mask)
    np.savez(file + ".npz", ids=ids.numpy(), mask=mask.numpy(), logits=logits.numpy())


def onnx_forward(file, threads):
    """ONNX Runtime on the CPU with all its graph optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def forward(ids, mask):
        return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]

    example = np.load(file + ".npz")
    difference = np.abs(forward(example["ids"], example["mask"]) - example["logits"]).max()
    assert difference < 1e-4, f"the exported model differs by {difference}"
    return forward


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["torch", "onnx"], required=True)
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--onnx", help="exported model; made if it is not there")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--export-only", action="store_true")
    args = parser.parse_args()
    if args.engine == "torch":
        forward = torch_forward(args.model, args.dtype, args.threads)
    else:
        assert args.dtype == "f32", "ONNX Runtime has no bf16 on the CPU"
        file = args.onnx or os.path.join(tempfile.mkdtemp(), "model.onnx")
        if not os.path.exists(file):
            export(args.model, file)
        if args.export_only:
            return
        forward = onnx_forward(file, args.threads)

    random = np.random.default_rng(0)
    times = []
    for _ in range(args.warmup + args.batches):
        start = time.perf_counter()
        ids = random.integers(0, 30000, (args.batch, args.length), dtype=np.int64)
        logits = forward(ids, np.ones_like(ids))
        times.append((time.perf_counter() - start) * 1e3)
        assert np.isfinite(logits).all()
    times = times[args.warmup :]
    p50 = quantile(times, 0.5)
    print(
        json.dumps(
            {
                "examples_per_second": args.batch * 1e3 / p50,
                "latency_ms": {"p50": p50, "p99": quantile(times, 0.99)},
                "peak_memory_mib": peak_memory_mib(),
            }
        )
    )


if __name__ == "__main__":
    main()
