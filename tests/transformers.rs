//! What a run saves is what Transformers reads: no missing and no unexpected tensor, the same tokens and logits.
//!
//! Needs a Python with PyTorch and Transformers: `$DISTILL_PEER_PYTHON`, by default the one of
//! `~/.cache/peer-venv`. Says on stderr that it skipped itself where there is none.

mod support;

use serde_json::Value;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use support::{run, tiny_folder};

/// Architecture, its Transformers class, and the tokeniser that goes with it.
const ARCHITECTURES: [(&str, &str, &str); 5] = [
    ("bert", "BertForSequenceClassification", "wordpiece"),
    ("distilbert", "DistilBertForSequenceClassification", "wordpiece"),
    ("roberta", "RobertaForSequenceClassification", "bpe"),
    ("xlm-roberta", "XLMRobertaForSequenceClassification", "bpe"),
    ("albert", "AlbertForSequenceClassification", "wordpiece"),
];

fn python() -> Option<PathBuf> {
    let default =
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/peer-venv/bin/python");
    let python = std::env::var_os("DISTILL_PEER_PYTHON").map_or_else(default, PathBuf::from);
    let works = Command::new(&python).args(["-c", "import torch, transformers"]).output();
    works.is_ok_and(|output| output.status.success()).then_some(python)
}

#[test]
fn every_architecture_is_read_by_transformers_with_the_same_logits() {
    let Some(python) = python() else {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no Python with PyTorch and Transformers; set DISTILL_PEER_PYTHON to one"
        );
        return;
    };
    let folder = tiny_folder();
    for (architecture, _, tokenizer) in ARCHITECTURES {
        let sets = [
            format!("model.architecture={architecture}"),
            format!("tokenizer.train.kind={tokenizer}"),
            "tokenizer.train.vocab_size=400".to_owned(),
            "train.max_steps=12".to_owned(),
            "train.dtype=f32".to_owned(),
            format!("output_dir={architecture}"),
        ];
        let arguments: Vec<&str> =
            ["run", "tiny.toml"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set])).collect();
        run(folder.path(), &arguments).success();
    }
    // Tests run in the folder of their crate; the script runs elsewhere.
    let script =
        std::env::current_dir().expect("a folder").join("../../tests/support/transformers_parity.py");
    let output = Command::new(python)
        .arg(script)
        .args(ARCHITECTURES.map(|(architecture, ..)| architecture))
        .current_dir(folder.path())
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    let results: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    assert_eq!(results.len(), ARCHITECTURES.len(), "{stdout}");
    for (result, (architecture, class, _)) in results.iter().zip(ARCHITECTURES) {
        assert_eq!(result["class"], class);
        for kind in ["missing", "unexpected", "mismatched"] {
            assert_eq!(result[kind], serde_json::json!([]), "{architecture}: {kind}");
        }
        assert_eq!(result["rows"], 40, "{architecture}");
        assert_eq!(result["same_labels"], true, "{architecture}");
        let difference = result["difference"].as_f64().expect("a number");
        assert!(difference < 1e-4, "{architecture}: logits differ by {difference}");
    }
}
