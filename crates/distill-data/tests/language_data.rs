//! Reads real summaries and plain text, and tokenises a conversation as Transformers does.
//!
//! The data are not part of the repository: `DISTILL_DATA` names their folder and `DISTILL_MODELS`
//! that of models; where they are not there the tests say that they skip.
use std::io::Write as _;
use std::path::PathBuf;

use distill_data::tokenizer::Tokenizer;
use distill_data::{
    Answers, Cut, DataSpec, Field, LanguageSpec, Layout, Message, Role, RowEncoder, RowKind, RowParts,
    Template, TextUnit, marks, pack, read_language_rows, scan_language_rows,
};

/// A folder that may be absent, which is said on stderr.
fn folder(variable: &str, usual: PathBuf) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map_or(usual, PathBuf::from);
    if !folder.is_dir() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no folder `{}`; set {variable}", folder.display());
        return None;
    }
    Some(folder)
}

fn data(file: &str) -> Option<String> {
    Some(folder("DISTILL_DATA", "../../../shared/data".into())?.join(file).display().to_string())
}

fn smollm2() -> Option<Tokenizer> {
    let models = std::env::home_dir()?.join(".cache/distill-models");
    let folder = folder("DISTILL_MODELS", models)?.join("smollm2-135m-instruct");
    if !folder.is_dir() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no `{}`", folder.display());
        return None;
    }
    Some(Tokenizer::load(&folder).unwrap())
}

fn read(spec: &LanguageSpec) -> Vec<RowParts> {
    let mut rows = Vec::new();
    read_language_rows(spec, &mut |row| {
        rows.push(row.parts);
        Ok(())
    })
    .unwrap();
    rows
}

fn template(text: &str) -> Field {
    Field::Template(Template::parse(text).unwrap())
}

#[test]
fn abstracts_are_lists_of_sentences_with_several_summaries() {
    let Some(file) = data("scitldr_a/test.jsonl") else { return };
    let kind = RowKind::Pair { prompt: template("{source}\nTL;DR:"), target: Some(template(" {target}")) };
    let spec = LanguageSpec { data: DataSpec::new([file], Vec::new()), text_unit: TextUnit::Line, kind };
    let rows = read(&spec);
    assert_eq!(rows.len(), 618);
    let mut references = 0;
    for row in &rows {
        let RowParts::Pair { prompt, targets } = row else { panic!("{row:?}") };
        assert!(prompt.ends_with("\nTL;DR:") && !prompt.contains("\n\nTL;DR:"));
        assert!(
            targets.iter().all(|target| target.starts_with(' ') && target.trim().len() + 1 == target.len())
        );
        references += targets.len();
    }
    assert_eq!(references, 1967);
}

#[test]
fn clauses_are_the_values_of_one_object() {
    let Some(file) = data("legal_summarization/all_v1.json") else { return };
    let column = |name: &str| Field::Column(name.into());
    let kind = RowKind::Pair { prompt: column("original_text"), target: Some(column("reference_summary")) };
    let spec = LanguageSpec { data: DataSpec::new([file], Vec::new()), text_unit: TextUnit::Line, kind };
    let rows = read(&spec);
    assert_eq!(rows.len(), 446);
    let RowParts::Pair { targets, .. } = &rows[445] else { panic!("{:?}", rows[445]) };
    assert_eq!(targets, &["terms may be changed any time at their discretion without notice to the user."]);
    let scan = scan_language_rows(&spec, &mut |_| ()).unwrap();
    assert_eq!(scan.bytes.iter().sum::<u64>(), 41_271);
}

#[test]
fn a_play_is_read_by_speech_or_whole() {
    let Some(file) = data("tinyshakespeare/input.txt") else { return };
    let spec = |text_unit| LanguageSpec {
        data: DataSpec::new([file.clone()], vec!["text".into()]),
        text_unit,
        kind: RowKind::Document,
    };
    let speeches = read(&spec(TextUnit::Paragraph));
    assert_eq!(speeches.len(), 7222);
    let first = "First Citizen:\nBefore we proceed any further, hear me speak.";
    assert_eq!(speeches[0], RowParts::Document(first.to_owned()));
    let whole = scan_language_rows(&spec(TextUnit::File), &mut |_| ()).unwrap();
    // The file without its last line break.
    assert_eq!(whole.bytes, [1_115_393]);

    let Some(tokenizer) = smollm2() else { return };
    let encoder = RowEncoder::new(&tokenizer, Layout::Decoder, 512).unwrap();
    let tokens = encoder.encode_batch(&speeches[..1000]).unwrap();
    let lengths: Vec<u32> = tokens.iter().map(|row| row.ids.len() as u32).collect();
    let sequences = pack(&lengths, 512, Cut::Anywhere).unwrap();
    let total: usize = lengths.iter().map(|length| *length as usize).sum();
    // A token more for each cut, of which there is one a sequence.
    assert!(sequences.len() <= (total + sequences.len()).div_ceil(511), "{} of {total}", sequences.len());
    for (row, encoded) in speeches.iter().zip(&tokens) {
        let (ids, learnt) = marks::split(&encoded.ids);
        let RowParts::Document(text) = row else { panic!("{row:?}") };
        assert_eq!(&tokenizer.decode(&ids).unwrap(), text);
        assert_eq!(ids.last(), Some(&2));
        assert!(learnt.iter().all(|learnt| *learnt));
    }
}

/// Transformers 5.23: `apply_chat_template(messages, tokenize=True)`, and `tokenizer(text)`.
#[test]
fn golden_tokens_equal_transformers() {
    let Some(tokenizer) = smollm2() else { return };
    let messages = vec![
        Message::new(Role::User, "Name a colour."),
        Message::new(Role::Assistant, "Gr\u{fc}n, of course!"),
        Message::new(Role::User, "Why?"),
        Message::new(Role::Assistant, " Frogs.\n"),
    ];
    let encoder = RowEncoder::new(&tokenizer, Layout::Decoder, 512).unwrap();
    let chat = RowParts::Chat(messages);
    let (ids, learnt) = marks::split(&encoder.encode(&chat).unwrap().ids);
    let expected = [
        1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712,
        8182, 2, 198, 1, 4093, 198, 5820, 253, 7302, 30, 2, 198, 1, 520, 9531, 198, 27302, 47682, 28, 282,
        1740, 17, 2, 198, 1, 4093, 198, 4898, 47, 2, 198, 1, 520, 9531, 198, 25768, 4387, 30, 198, 2, 198,
    ];
    assert_eq!(ids, expected);
    let written: Vec<usize> = (0..ids.len()).filter(|place| learnt[*place]).collect();
    assert_eq!(written, (34..=40).chain(53..=57).collect::<Vec<_>>());
    assert_eq!(encoder.prompt(&chat).unwrap().ids, expected[..53]);

    let targets = vec![" Frogs \u{e9} \u{4e2d}".to_owned()];
    let pair = RowParts::Pair { prompt: "Summarize: two\n frogs".to_owned(), targets };
    let (ids, learnt) = marks::split(&encoder.encode(&pair).unwrap().ids);
    assert_eq!(ids, [13764, 3298, 836, 42, 827, 198, 18952, 25768, 4387, 26411, 216, 28589, 2]);
    assert_eq!(learnt.iter().filter(|learnt| !**learnt).count(), 7);
    assert_eq!((tokenizer.bos_token_id(), tokenizer.eos_token_id()), (Some(1), Some(2)));
    assert_eq!((tokenizer.pad_token_id(), tokenizer.unk_token_id()), (Some(2), Some(0)));
}

#[test]
fn conversations_may_lack_an_answer_where_it_is_to_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, "{\"chat\": [{\"from\": \"human\", \"value\": \"hi\"}]}\n").unwrap();
    let spec = |answers| LanguageSpec {
        data: DataSpec::new([path.display().to_string()], Vec::new()),
        text_unit: TextUnit::Line,
        kind: RowKind::Chat { messages: "chat".into(), answers },
    };
    assert_eq!(read(&spec(Answers::Optional)), [RowParts::Chat(vec![Message::new(Role::User, "hi")])]);
    assert!(scan_language_rows(&spec(Answers::Required), &mut |_| ()).is_err());
}
