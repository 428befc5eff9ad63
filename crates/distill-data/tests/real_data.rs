//! Reads real data sets in the layouts in which people have them.
//!
//! They are not part of the repository: `DISTILL_DATA` names their folder, `../shared/data` beside
//! the repository is tried without it, and where neither is there the tests say that they skip.
use std::io::Write as _;
use std::path::PathBuf;

use distill_data::tokenizer::Encoded;
use distill_data::{
    CacheKey, Column, Corpus, DataError, DataSpec, LabelSource, LabelStyle, Padding, TokenStats,
    TokenizedDataset, collate, epoch_order, label_counts, load_classification, load_texts,
    scan_classification, stratified_split,
};

const INFER: LabelSource<'_> = LabelSource::Infer { names: None, start: None };

/// The path of a data file; `None`, said on stderr, where there is no folder of data.
fn data(file: &str) -> Option<String> {
    let folder =
        std::env::var_os("DISTILL_DATA").map_or_else(|| PathBuf::from("../../../shared/data"), PathBuf::from);
    if !folder.is_dir() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no data sets at `{}`; set DISTILL_DATA to their folder",
            folder.display()
        );
        return None;
    }
    Some(folder.join(file).display().to_string())
}

fn spec(file: String, text: &str, label: &str) -> DataSpec {
    DataSpec { label: Some(label.into()), ..DataSpec::new([file], vec![text.into()]) }
}

fn ag_news(file: String) -> DataSpec {
    DataSpec {
        header: false,
        label: Some(Column::Number(0)),
        ..DataSpec::new([file], vec![Column::Number(1), Column::Number(2)])
    }
}

fn load(spec: &DataSpec) -> Corpus {
    load_classification(spec, INFER, &mut |_| ()).unwrap()
}

#[test]
fn ag_news_has_no_header_and_labels_from_1() {
    let Some(path) = data("ag_news/test.csv") else { return };
    let names: Vec<String> = ["World", "Sports", "Business", "Sci/Tech"].map(String::from).to_vec();
    let labels = LabelSource::Infer { names: Some(&names), start: None };
    let corpus = load_classification(&ag_news(path), labels, &mut |_| ()).unwrap();
    assert_eq!(label_counts(&corpus.labels, 4), [1900; 4]);
    assert_eq!(corpus.label_map.style(), LabelStyle::IntegersFrom1);
    assert!(corpus.texts[0].starts_with("Fears for T N pension after talks Unions representing workers"));
    assert_eq!(corpus.labels[0], 2);
    let split = stratified_split(&corpus.labels, 0.05, 42).unwrap();
    let held_out: Vec<u32> = split.validation.iter().map(|row| corpus.labels[*row]).collect();
    assert_eq!(label_counts(&held_out, 4), [95; 4]);
}

#[test]
fn several_files_and_an_empty_column_are_one_data_set() {
    let (Some(train), Some(extra)) =
        (data("ag_news/train_10k.csv"), data("ag_news/train_extra_desc_only.csv"))
    else {
        return;
    };
    let mut spec = ag_news(train);
    spec.sources.push(extra);
    let corpus = load(&spec);
    assert_eq!(corpus.texts.len(), 9993 + 9080);
    assert_eq!(corpus.files.iter().map(|file| file.rows).collect::<Vec<_>>(), [9993, 9080]);
    assert!(corpus.texts[9993].starts_with("p2pnet.net News:-"));
    // The noisy file holds the same rows, and a fifth of the labels differ.
    let Some(noisy) = data("ag_news/train_10k_noisy_labels.csv") else { return };
    let noisy = load(&ag_news(noisy));
    assert_eq!(noisy.texts, corpus.texts[..9993]);
    let wrong = noisy.labels.iter().zip(&corpus.labels).filter(|(one, other)| one != other).count();
    assert!((1900..2050).contains(&wrong), "{wrong}");
}

#[test]
fn banking77_has_a_header_and_line_breaks_in_quotes() {
    let (Some(train), Some(test)) = (data("banking77/train.csv"), data("banking77/test.csv")) else { return };
    let train = load(&spec(train, "text", "category"));
    assert_eq!((train.texts.len(), train.label_map.len()), (10_003, 77));
    let map = LabelSource::Map(&train.label_map);
    let test = load_classification(&spec(test, "text", "category"), map, &mut |_| ()).unwrap();
    assert_eq!(label_counts(&test.labels, 77), [40; 77]);
}

#[test]
fn trec_is_separated_by_tabs_in_spite_of_its_name() {
    let Some(path) = data("trec/train.csv") else { return };
    let mut spec = spec(path, "question", "label");
    let error = load_classification(&spec, INFER, &mut |_| ()).unwrap_err();
    assert!(error.help().unwrap().contains("`format = \"tsv\"`"), "{error}");
    spec.delimiter = Some('\t');
    let corpus = load(&spec);
    assert_eq!((corpus.texts.len(), corpus.label_map.len()), (5452, 6));
    assert_eq!(corpus.texts[0], "How did serfdom develop in and then leave Russia ?");
}

#[test]
fn sst2_has_labels_from_0() {
    for (file, rows) in [("train", 60_614), ("dev", 6735), ("test", 872)] {
        let Some(path) = data(&format!("sst2_glue/{file}.tsv")) else { return };
        let corpus = load(&spec(path, "sentence", "label"));
        assert_eq!((corpus.texts.len(), corpus.label_map.len()), (rows, 2), "{file}");
    }
}

#[test]
fn medical_abstracts_have_integers_as_names() {
    let Some(path) = data("medical_abstracts/medical_tc_test.csv") else { return };
    let corpus = load(&spec(path, "medical_abstract", "condition_label"));
    assert_eq!(corpus.texts.len(), 2888);
    assert_eq!(corpus.label_map.names(), ["1", "2", "3", "4", "5"]);
}

#[test]
fn json_lines_with_lists_and_nulls() {
    let Some(path) = data("scitldr_a/train.jsonl") else { return };
    let corpus = load_texts(&DataSpec::new([path], vec!["source".into()]), &mut |_| ()).unwrap();
    assert_eq!(corpus.texts.len(), 1992);
    let Some(path) = data("cqa/train.jsonl") else { return };
    let corpus =
        load_texts(&DataSpec::new([path], vec!["question".into(), "choices".into()]), &mut |_| ()).unwrap();
    assert_eq!(corpus.texts.len(), 9741);
    let Some(path) = data("svamp/train.jsonl") else { return };
    let error = load_texts(&DataSpec::new([path], vec!["rationale".into()]), &mut |_| ()).unwrap_err();
    assert!(matches!(error, DataError::EmptyText { .. }), "{error}");
}

#[test]
fn an_object_of_objects_has_a_row_for_each_key() {
    let Some(path) = data("legal_summarization/all_v1.json") else { return };
    let corpus = load_texts(&spec(path, "original_text", "label"), &mut |_| ()).unwrap();
    assert_eq!(corpus.texts.len(), 446);
    assert!(corpus.texts[0].starts_with("welcome to the pok\u{e9}mon go video game services"));
}

#[test]
fn plain_text_and_bytes_that_are_none() {
    let Some(path) = data("tinyshakespeare/input.txt") else { return };
    let corpus = load_texts(&DataSpec::new([path], vec!["text".into()]), &mut |_| ()).unwrap();
    assert_eq!(corpus.texts[..2], ["First Citizen:", "Before we proceed any further, hear me speak."]);
    let Some(path) = data("trec/TREC.train.all") else { return };
    let mut spec = DataSpec::new([path], vec!["text".into()]);
    assert!(matches!(load_texts(&spec, &mut |_| ()), Err(DataError::UnknownExtension { .. })));
    spec.format = Some(distill_data::Format::from_name("text").unwrap());
    let error = load_texts(&spec, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("TREC.train.all:66`: invalid UTF-8, byte 0xf0 at offset"), "{error}");
}

#[test]
fn files_are_tokenised_in_a_stream_and_batched() {
    let Some(path) = data("ag_news/test.csv") else { return };
    let spec = ag_news(path);
    let scan = scan_classification(&spec, INFER, &mut |_| ()).unwrap();
    let corpus = load(&spec);
    assert_eq!(scan.content, corpus.content);
    // A token a word, so that no model is needed.
    let encode = |texts: &[String]| -> Result<Vec<Encoded>, String> {
        let row = |text: &String| {
            let ids: Vec<u32> = text.split_whitespace().map(|word| word.len() as u32).collect();
            Encoded { full_length: ids.len(), ids: ids.into_iter().take(64).collect() }
        };
        Ok(texts.iter().map(row).collect())
    };
    let dir = tempfile::tempdir().unwrap();
    let key = CacheKey::new("words", 64, scan.content);
    let streamed =
        TokenizedDataset::from_files(dir.path(), &key, &spec, &scan, &encode, &mut |_| ()).unwrap();
    let bytes = std::fs::read(key.path(dir.path())).unwrap();
    std::fs::remove_file(key.path(dir.path())).unwrap();
    TokenizedDataset::from_texts(dir.path(), &key, &corpus.texts, Some(&corpus.labels), &encode, &mut |_| ())
        .unwrap();
    assert!(bytes == std::fs::read(key.path(dir.path())).unwrap());
    let stats = TokenStats::new(streamed.full_lengths(), 64);
    assert_eq!(stats.rows, 7600);
    assert!(stats.p50 > 30 && stats.truncated > 0 && stats.max > 64, "{stats:?}");
    let padding = Padding { pad_token_id: 0, multiple_of: 8, max_length: 64 };
    let (mut rows, mut places, mut tokens) = (Vec::new(), 0, 0);
    for positions in epoch_order(streamed.lengths(), 32, 42, 0) {
        let batch = collate(&streamed, &positions, &padding).unwrap();
        for (row, label) in batch.rows.iter().zip(&batch.labels) {
            assert_eq!(*label, i64::from(corpus.labels[*row]));
        }
        places += batch.input_ids.len();
        tokens += batch.tokens();
        rows.extend(batch.rows);
    }
    rows.sort_unstable();
    assert_eq!(rows, (0..7600).collect::<Vec<_>>());
    assert_eq!(tokens as u64, streamed.lengths().iter().map(|length| u64::from(*length)).sum::<u64>());
    assert!((places as f64) < 1.2 * tokens as f64, "{places} places for {tokens} tokens");
}
