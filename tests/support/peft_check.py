"""Compares what `distill` made of the folders of `peft_make.py` with what PEFT and Transformers make of them.

Prints one JSON object a folder. Each argument is a `MODEL/FOLDER`, where folders are named by what they hold:

    run-new                 a run of `distill` with new adapters
    from-ADAPTER            a run of `distill` that went on from PEFT's adapter
    peft-ADAPTER            an adapter of PEFT
    merged-FOLDER[.FORM]    what `distill merge` made of FOLDER
    base, f16, bf16         a model that Transformers saved

Beside all but merged ones lies what `distill generate` or `distill predict` wrote, as `FOLDER.jsonl`.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel, get_peft_model, load_peft_weights, set_peft_model_state_dict
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

ENCODERS = ["bert", "roberta", "distilbert"]
LABELS = "abc"
IGNORED = -100
# As in the recipes of `peft.rs`.
NEW_TOKENS = dict(min_new_tokens=8, max_new_tokens=12, do_sample=False)


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def pad(rows, value):
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


class Kind:
    """An architecture: how it is loaded, what it reads and what it is to say."""

    def __init__(self, name):
        self.is_encoder = name in ENCODERS
        self.is_encoder_decoder = name == "t5"
        self.loader = (
            AutoModelForSequenceClassification
            if self.is_encoder
            else AutoModelForSeq2SeqLM
            if self.is_encoder_decoder
            else AutoModelForCausalLM
        )
        self.keys = {"num_labels": len(LABELS)} if self.is_encoder else {}
        # `AutoTokenizer` would make a byte-level one of Qwen2's, whatever its file says.
        side = "right" if self.is_encoder_decoder else "left"
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(f"{name}/base", padding_side=side)
        self.base = f"{name}/base"

    def load(self, folder):
        model, info = self.loader.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, **self.keys
        )
        faults = {kind: sorted(map(str, info[f"{kind}_keys"])) for kind in ["missing", "unexpected", "mismatched"]}
        return model.eval(), faults

    def load_adapter(self, folder, is_trainable=False):
        model = PeftModel.from_pretrained(self.load(self.base)[0], folder, is_trainable=is_trainable)
        return model.eval()

    def adapter_faults(self, folder):
        """Tensors of the adapter that the file lacks, and those of the file that the adapter lacks."""
        model = get_peft_model(self.load(self.base)[0], PeftConfig.from_pretrained(folder))
        result = set_peft_model_state_dict(model, load_peft_weights(folder))
        missing = [key for key in result.missing_keys if "lora_" in key or "modules_to_save" in key]
        return {"missing": sorted(missing), "unexpected": sorted(result.unexpected_keys), "mismatched": []}

    def inputs(self, rows):
        """Inputs and labels of rows, as a batch; labels stand where their logits do."""
        if self.is_encoder:
            ids = [self.tokenizer(row["text"]).input_ids for row in rows]
            labels = torch.tensor([LABELS.index(row["label"]) for row in rows])
            return self.batch(ids), labels
        if self.is_encoder_decoder:
            targets = [self.tokenizer(row["target"]).input_ids for row in rows]
            labels = pad(targets, IGNORED)
            decoder = pad([[0, *target[:-1]] for target in targets], 0)
            prompts = self.batch([self.tokenizer(row["prompt"]).input_ids for row in rows])
            return prompts | {"decoder_input_ids": decoder}, labels
        ids = [[*self.tokenizer(row["text"]).input_ids, self.tokenizer.eos_token_id] for row in rows]
        return self.batch(ids), pad([[*row[1:], IGNORED] for row in ids], IGNORED)

    def batch(self, ids):
        return {"input_ids": pad(ids, 0), "attention_mask": pad([[1] * len(row) for row in ids], 0)}

    def loss(self, model, rows):
        inputs, labels = self.inputs(rows)
        logits = model(**inputs).logits
        return cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED)

    def logits(self, model, rows):
        inputs, labels = self.inputs(rows)
        with torch.no_grad():
            logits = model(**inputs).logits
        # Those at padding say nothing.
        return logits if labels.dim() == 1 else logits[labels != IGNORED]

    def texts(self, model, rows):
        inputs = self.tokenizer([row["prompt"] for row in rows], return_tensors="pt", padding=True)
        length = 0 if self.is_encoder_decoder else inputs.input_ids.shape[1]
        new = model.generate(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, **NEW_TOKENS)
        return self.tokenizer.batch_decode(new[:, length:], skip_special_tokens=True)

    def compare_answers(self, model, path, rows):
        """Whether `distill` says the same of the rows: labels and logits, or greedy tokens."""
        answers = read_lines(path)
        if not self.is_encoder:
            texts = self.texts(model, rows)
            same = sum(answer["text"] == text for answer, text in zip(answers, texts, strict=True))
            return {"rows": len(rows), "same": same, "tokens": sum(answer["tokens"] for answer in answers)}
        logits = self.logits(model, rows)
        labels = [LABELS[label] for label in logits.argmax(-1)]
        same = sum(answer["label"] == label for answer, label in zip(answers, labels, strict=True))
        difference = logits - torch.tensor([answer["logits"] for answer in answers])
        return {"rows": len(rows), "same": same, "difference": difference.abs().max().item()}


def train(kind, adapter, steps, rows):
    """Loss of each step of AdamW from an adapter, each on all rows, with the learning rates of a run."""
    model = kind.load_adapter(adapter, is_trainable=True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.dim() > 1], "weight_decay": 0.01},
        {"params": [parameter for parameter in trained if parameter.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups)
    losses = []
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = step["learning_rate"]
        loss = kind.loss(model, rows)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    return losses


def stored(folder):
    """The tensors in a folder's files, and what its index says of them, if there is one."""
    files = sorted(Path(folder).glob("*.safetensors"))
    tensors = [pair for file in files for pair in load_file(file).items()]
    facts = {"files": len(files), "dtypes": sorted({str(tensor.dtype) for _, tensor in tensors}), "index": None}
    index = Path(folder) / "model.safetensors.index.json"
    if index.is_file():
        written = json.loads(index.read_text(encoding="utf-8"))
        held = {name: file.name for file in files for name in load_file(file)}
        size = sum(tensor.nbytes for _, tensor in tensors)
        facts["index"] = written["weight_map"] == held and written["metadata"]["total_size"] == size
    return tensors, facts


def check_merged(kind, path, adapter, rows):
    """A merged model beside PEFT's `merge_and_unload`."""
    model, result = kind.load(path)
    expected = kind.load_adapter(adapter).merge_and_unload()
    difference = kind.logits(model, rows) - kind.logits(expected, rows)
    tensors, facts = stored(path)
    weights = expected.state_dict()

    def distance(name, tensor):
        """Relative to the weight, or to what is small among weights."""
        return ((tensor.float() - weights[name]).abs() / (weights[name].abs() + 0.01)).max().item()

    # Tied weights are one tensor under two names.
    distinct = len({weight.data_ptr() for weight in weights.values()})
    return result | facts | {
        "difference": difference.abs().max().item(),
        "weight_difference": max(distance(name, tensor) for name, tensor in tensors),
        "tensors": len(tensors),
        "expected_tensors": distinct,
    }  # fmt: skip


def check(path, rows):
    name, folder = path.split("/")
    kind = Kind(name)
    if folder.startswith("merged-"):
        adapter = folder.removeprefix("merged-").split(".")[0]
        return check_merged(kind, path, f"{name}/{adapter}", rows["test"])
    if (Path(path) / "adapter_config.json").is_file():
        result = kind.adapter_faults(path)
        model = kind.load_adapter(path)
    else:
        model, result = kind.load(path)
    with torch.no_grad():
        result |= kind.compare_answers(model, f"{path}.jsonl", rows["test"])
    if (Path(path) / "run.json").is_file():
        with open(f"{path}/run.json", encoding="utf-8") as file:
            test_loss = json.load(file)["metrics"]["test"]["loss"]
        with torch.no_grad():
            result["loss_difference"] = abs(kind.loss(model, rows["test"]).item() - test_loss)
    if folder.startswith("from-"):
        steps = [line for line in read_lines(f"{path}/metrics.jsonl") if line["kind"] == "train"]
        losses = train(kind, f"{name}/peft-{folder.removeprefix('from-')}", steps, rows["train"])
        result["step_differences"] = [abs(loss - step["loss"]) for loss, step in zip(losses, steps, strict=True)]
    return result


def main():
    # Two threads are slower than one for models of this size.
    torch.set_num_threads(1)
    rows = {name: read_lines(f"{name}.jsonl") for name in ["train", "test"]}
    for path in sys.argv[1:]:
        print(json.dumps({"folder": path} | check(path, rows)), flush=True)


if __name__ == "__main__":
    main()
