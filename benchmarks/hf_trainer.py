"""The Transformers Trainer on AG News, with the settings of `compare.py`'s recipe; prints one JSON object.

Rows are CSV without a header: class from 1, title, description. Wall time counts from the start that the caller gives
in `BENCH_START` (seconds since 1970) to the saved model; the test set is measured after that.
"""

import argparse
import csv
import json
import os
import time

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from peer import peak_memory_mib


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    return Dataset.from_dict({"text": [" ".join(row[1:]) for row in rows], "label": [int(row[0]) - 1 for row in rows]})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--dtype", choices=["f32", "bf16"], required=True)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--max-steps", type=int, default=-1)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    start = float(os.environ.get("BENCH_START", time.time()))
    torch.set_num_threads(args.threads)
    set_seed(args.seed)

    tokenizer = AutoTokenizer.from_pretrained(args.model)

    def encode(dataset):
        def tokenize(rows):
            return tokenizer(rows["text"], truncation=True, max_length=128)

        return dataset.map(tokenize, batched=True, remove_columns=["text"])

    train = encode(read(args.train))
    model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=4)
    settings = TrainingArguments(
        output_dir=args.output,
        use_cpu=True,
        bf16=args.dtype == "bf16",
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        num_train_epochs=args.epochs,
        max_steps=args.max_steps,
        learning_rate=1e-4,
        warmup_steps=0.06,  # below 1: a share of all steps
        weight_decay=0.01,
        train_sampling_strategy="group_by_length",
        logging_steps=100,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=args.seed,
    )
    trainer = Trainer(
        model=model,
        args=settings,
        train_dataset=train,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda p: {"accuracy": float(np.mean(p.predictions.argmax(-1) == p.label_ids))},
    )
    train_start = time.time()
    trainer.train()
    train_seconds = time.time() - train_start
    trainer.save_model(args.output)
    tokenizer.save_pretrained(args.output)
    seconds = time.time() - start
    peak = peak_memory_mib()
    accuracy = trainer.evaluate(encode(read(args.test)))["eval_accuracy"]
    print(
        json.dumps(
            {"seconds": seconds, "train_seconds": train_seconds, "accuracy": accuracy, "peak_memory_mib": peak}
        )
    )


if __name__ == "__main__":
    main()
