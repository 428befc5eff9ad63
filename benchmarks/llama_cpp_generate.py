"""Prompt processing and greedy decoding of llama.cpp, as `distill bench generate` measures ours; prints one JSON object.

The model of a Hugging Face folder (architecture `llama`) is written as GGUF in bf16 first, without a tokenizer: what is
measured are token ids. Needs the packages `llama-cpp-python`, `gguf`, `safetensors` and `torch`.
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peer import peak_memory_mib


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--gguf", help="where the file is, or is to be written; a temporary one without it")
    parser.add_argument("--write-only", action="store_true", help="write the file and measure nothing")
    parser.add_argument("--prompt-length", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        file = args.gguf or os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "model.gguf")
        if args.write_only:
            return write_gguf(Path(args.model), file)
        if not Path(file).exists():
            # In a process of its own: the memory that writing takes is not that of generating.
            command = [sys.executable, "-B", __file__, "--model", args.model, "--gguf", file]
            subprocess.run([*command, "--write-only", "--threads", "1"], check=True, stdout=sys.stderr)
        print(json.dumps(measure(file, args)))


def write_gguf(folder, file):
    import gguf
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text())
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_theta") or config.get("rope_parameters", {}).get("rope_theta", 10000.0)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope)
    writer.add_rope_dimension_count(head_size)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        values = tensor.float().numpy()
        for part, count in [("q_proj", heads), ("k_proj", kv_heads)]:
            if f"{part}.weight" in name:
                # llama.cpp rotates neighbours, Hugging Face halves.
                halves = values.reshape(count, 2, head_size // 2, -1)
                values = halves.swapaxes(1, 2).reshape(values.shape)
        name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            bf16 = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(name, gguf.quants.quantize(values, bf16), raw_dtype=bf16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Generator:
    """One text in a context of its own."""

    def __init__(self, file, length, threads):
        import llama_cpp

        self.api = llama_cpp
        self.log = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.log, None)
        self.model = llama_cpp.llama_model_load_from_file(file.encode(), llama_cpp.llama_model_default_params())
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = length, length, length
        params.n_threads, params.n_threads_batch = threads, threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def read(self, ids):
        """The likeliest token after these."""
        import numpy

        tokens = (self.api.llama_token * len(ids))(*ids)
        if self.api.llama_decode(self.context, self.api.llama_batch_get_one(tokens, len(ids))) != 0:
            sys.exit("llama.cpp could not read the tokens")
        logits = self.api.llama_get_logits_ith(self.context, -1)
        return int(numpy.ctypeslib.as_array(logits, shape=(self.vocab_size,)).argmax())

    def forget(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)


def measure(file, args):
    generator = Generator(file, args.prompt_length + args.new_tokens, args.threads)
    chosen = random.Random(0)
    ids = [chosen.randrange(generator.vocab_size) for _ in range(args.prompt_length)]
    prompts, decodes = [], []
    for _ in range(args.repeats + 1):
        generator.forget()
        start = time.perf_counter()
        token = generator.read(ids)
        prompts.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(args.new_tokens - 1):
            token = generator.read([token])
        decodes.append(time.perf_counter() - start)
    result = {"tokens_per_second": args.prompt_length / statistics.median(prompts[1:])}
    if args.new_tokens > 1:
        result["decode_tokens_per_second"] = (args.new_tokens - 1) / statistics.median(decodes[1:])
    return {**result, "peak_memory_mib": peak_memory_mib()}


if __name__ == "__main__":
    main()
