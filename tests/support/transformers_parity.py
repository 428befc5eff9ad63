"""Loads each run folder given as an argument with Transformers and compares it with the run's own predictions.

Prints one JSON object a folder: missing and unexpected tensors, and the largest difference of a logit.
"""

import json
import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

for folder in sys.argv[1:]:
    model, info = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with open(f"{folder}/run.json", encoding="utf-8") as file:
        max_length = json.load(file)["recipe"]["data"]["max_length"]
    with open(f"{folder}/predictions.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    difference, same = 0.0, True
    with torch.no_grad():
        for row in rows:
            inputs = tokenizer(row["text"], truncation=True, max_length=max_length, return_tensors="pt")
            logits = model(**inputs).logits[0]
            difference = max(difference, (logits - torch.tensor(row["logits"])).abs().max().item())
            same = same and model.config.id2label[int(logits.argmax())] == row["prediction"]
    result = {
        "class": type(model).__name__,
        "missing": sorted(info["missing_keys"]),
        "unexpected": sorted(info["unexpected_keys"]),
        "mismatched": sorted(str(key) for key in info["mismatched_keys"]),
        "rows": len(rows),
        "difference": difference,
        "same_labels": same,
    }
    print(json.dumps(result))
