"""Makes what `peft.rs` works on, in the current folder: tiny models with random weights, adapters for them by PEFT,
and copies of the models in half precision, sharded.

    MODEL/base              the model and its tokenizer, a word a token; of some encoders without a head
    MODEL/peft-ADAPTER      an adapter that PEFT saved, of which no part is zero
    MODEL/f16, MODEL/bf16   the model with an adapter's part in its weights, in shards
    train.jsonl, test.jsonl rows for every task
"""

import json
import random
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
WORDS = [f"w{number}" for number in range(len(SPECIAL), 120)]
DECODER = dict(
    vocab_size=120,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=64,
    max_position_embeddings=64,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
ENCODER = dict(
    vocab_size=120, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, pad_token_id=0
)  # fmt: skip
MODELS = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**DECODER, tie_word_embeddings=True)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**DECODER, tie_word_embeddings=False)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=120, n_embd=32, n_layer=2, n_head=4, n_positions=64, pad_token_id=0, bos_token_id=1, eos_token_id=2
        )
    ),
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=120, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=2,
            decoder_start_token_id=0,
        )
    ),
    "bert": lambda: transformers.BertForSequenceClassification(
        transformers.BertConfig(
            **ENCODER, max_position_embeddings=64, num_labels=3, id2label=dict(enumerate("abc")),
            label2id=dict(zip("abc", range(3))),
        )
    ),
    # Without heads: what learns beside the adapters is new.
    "roberta": lambda: transformers.RobertaModel(
        transformers.RobertaConfig(**ENCODER, max_position_embeddings=66, bos_token_id=1, eos_token_id=2)
    ),
    "distilbert": lambda: transformers.DistilBertModel(
        transformers.DistilBertConfig(
            vocab_size=120, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64, pad_token_id=0
        )
    ),
}  # fmt: skip
# What adapters adapt, by the models' names of layers: lists of names, an expression, and everything.
ADAPTERS = {
    "llama": {"names": dict(target_modules=["q_proj", "v_proj"]), "all": dict(target_modules="all-linear")},
    "qwen2": {
        "expression": dict(target_modules=r".*\.1\.(self_attn\.[qk]_proj|mlp\.down_proj)"),
        "all": dict(target_modules="all-linear", use_rslora=True),
    },
    "gpt2": {
        "names": dict(target_modules=["c_attn"], fan_in_fan_out=True),
        "all": dict(target_modules="all-linear", fan_in_fan_out=True),
    },
    "t5": {"names": dict(target_modules=["q", "v"]), "all": dict(target_modules="all-linear")},
    "bert": {"names": dict(target_modules=["query", "value"]), "all": dict(target_modules="all-linear")},
}
TASK_TYPES = {"t5": "SEQ_2_SEQ_LM", "bert": "SEQ_CLS"}
ENCODERS = ["bert", "roberta", "distilbert"]


def tokenizer(name):
    vocabulary = {word: number for number, word in enumerate(SPECIAL + WORDS)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = "$A </s>" if name == "t5" else "<s> $A </s>" if name in ENCODERS else None
    if template:
        made.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", 2)])
    names = dict(pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    if name in ENCODERS:
        names |= dict(cls_token="<s>", sep_token="</s>")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **names)


def randomise(model, seed, std):
    """Random biases, norms and large weights: a swapped or dropped tensor shows, and logits lie apart."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.1 * noise) if parameter.dim() == 1 else parameter.copy_(std * noise)
    model.tie_weights()
    return model.eval()


def write_data(chance):
    def words(most):
        return " ".join(chance.choices(WORDS, k=chance.randint(4, most)))

    for name, rows in [("train", 64), ("test", 12)]:
        with open(f"{name}.jsonl", "w", encoding="utf-8") as file:
            for _ in range(rows):
                row = {"text": words(20), "prompt": words(12), "target": words(8), "label": chance.choice("abc")}
                file.write(json.dumps(row) + "\n")


def main():
    write_data(random.Random(1))
    for seed, (name, build) in enumerate(MODELS.items()):
        folder = Path(name)
        model = randomise(build(), seed, 0.2)
        tokenizer(name).save_pretrained(folder / "base")
        model.save_pretrained(folder / "base")
        if name not in ADAPTERS:
            continue
        for kind, settings in ADAPTERS[name].items():
            base = type(model).from_pretrained(folder / "base")
            config = LoraConfig(
                r=4, lora_alpha=6, init_lora_weights=False, task_type=TASK_TYPES.get(name, "CAUSAL_LM"), **settings
            )
            torch.manual_seed(seed)
            adapted = get_peft_model(base, config)
            adapted.save_pretrained(folder / f"peft-{kind}")
        merged = adapted.merge_and_unload()
        for dtype, word in [(torch.float16, "f16"), (torch.bfloat16, "bf16")]:
            merged.to(dtype).save_pretrained(folder / word, max_shard_size="20KB")
            tokenizer(name).save_pretrained(folder / word)


if __name__ == "__main__":
    main()
