//! The whole way, from texts to the file, with a tiny model of random weights.

use super::test_support::{settings, tokenizer};
use super::*;
use crate::rows::Source;
use distill_data::source::Column;
use distill_data::{DataSpec, load_texts, scan_texts};
use distill_models::{ForwardOptions, ModelInput, find, from_scratch, save};
use distill_ops::{DeviceSpec, Dropout, resolve};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use tempfile::TempDir;

const RUNS_ON: [&str; 2] = ["flex", "ndarray"];

fn device(name: &str) -> Device {
    resolve(name.parse::<DeviceSpec>().expect("a device")).expect("it is compiled in")
}

/// A model folder; `vocab_size` beyond the tokenizer's, as checkpoints often have it.
fn model(task: Task) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let table = json!({
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 40,
    });
    let architecture = find("bert").expect("it is registered");
    let request = LoadRequest {
        task,
        head: HeadPolicy::Reinitialise,
        seed: 3,
        device: device("flex"),
        dropout: None,
        adapter: None,
    };
    let made = from_scratch(architecture, &table, 128, 0, request).expect("a model");
    save(made.model.as_ref(), &made.config, folder.path()).expect("it is saved");
    tokenizer().save(folder.path()).expect("the tokenizer is saved");
    folder
}

fn classifier() -> TempDir {
    model(Task::Classification { id2label: vec!["no".to_owned(), "yes".to_owned()] })
}

fn texts(rows: usize) -> Vec<String> {
    let words =
        ["the", "Bank", "printer,", "broke", "again", "market", "sold", "new", "bought", "zxyz", "2004"];
    let text = |row: usize| -> Vec<&str> {
        (0..3 + row % 9).map(|place| words[(row * 7 + place * place + 3 * place) % words.len()]).collect()
    };
    (0..rows).map(|row| format!("{} {row}", text(row).join(" "))).collect()
}

/// All rows of a file with one text a line, but every tenth.
fn rows(folder: &Path, texts: &[String]) -> Rows {
    let path = folder.join("texts.jsonl");
    let lines: Vec<String> = texts.iter().map(|text| json!({ "text": text }).to_string()).collect();
    std::fs::write(&path, lines.join("\n")).expect("texts are written");
    let spec = spec(&path);
    let scan = scan_texts(&spec, &mut |_| ()).expect("texts are read");
    let mut rows = Rows::all(Arc::new(Source::of_texts(spec, scan)));
    rows.rows.retain(|row| row % 10 != 9);
    rows
}

fn spec(path: &Path) -> DataSpec {
    DataSpec::new([path.display().to_string()], vec![Column::Name("text".to_owned())])
}

/// Counts how often a model is loaded, and interrupts once `stop_at` texts are done.
struct Watch<'a> {
    loaded: usize,
    interrupt: &'a AtomicBool,
    stop_at: Option<u64>,
}

impl Observer for Watch<'_> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Stage { .. } => self.loaded += 1,
            Event::Progress { done, total, .. } => {
                assert!(total.is_some_and(|total| *done <= total));
                let stop = self.stop_at.is_some_and(|stop_at| *done >= stop_at);
                self.interrupt.fetch_or(stop, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// The outcome, and how often a model was loaded.
fn run(
    model: &Path,
    rows: &Rows,
    settings: &AugmentSettings,
    device: &Device,
    cache: &Path,
    stop_at: Option<u64>,
) -> (Result<PathBuf, TrainError>, usize) {
    let interrupt = AtomicBool::new(false);
    let mut watch = Watch { loaded: 0, interrupt: &interrupt, stop_at };
    let made = augment(model, rows, settings, device, Precision::F32, cache, &interrupt, &mut watch);
    (made, watch.loaded)
}

/// The bytes of a file that is made in a new folder.
fn bytes(model: &Path, rows: &Rows, settings: &AugmentSettings, device: &Device) -> Vec<u8> {
    let cache = tempfile::tempdir().expect("a folder");
    let (path, loaded) = run(model, rows, settings, device, cache.path(), None);
    assert_eq!(loaded, 1);
    std::fs::read(path.expect("it is made")).expect("it is read")
}

fn both() -> [AugmentSettings; 2] {
    let of = |replacements| AugmentSettings { replacements, ..settings() };
    [of(Replacements::Embeddings), of(Replacements::MaskedLm)]
}

#[derive(Deserialize, Debug, PartialEq)]
struct ReadLine {
    text: String,
    row: usize,
}

fn lines(path: &Path) -> Vec<ReadLine> {
    let text = std::fs::read_to_string(path).expect("the file is read");
    text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
}

#[test]
fn every_row_gets_its_copies() {
    let (model, data) = (model(Task::MaskedLm), tempfile::tempdir().expect("a folder"));
    let texts = texts(60);
    let rows = rows(data.path(), &texts);
    for settings in both() {
        let (path, _) = run(model.path(), &rows, &settings, &device("flex"), data.path(), None);
        let path = path.expect("it is made");
        let lines = lines(&path);
        assert!(lines.is_sorted_by_key(|line| line.row));
        let seen: BTreeSet<usize> = lines.iter().map(|line| line.row).collect();
        assert_eq!(seen, rows.rows.iter().copied().collect(), "every row has a word that can be replaced");
        for line in &lines {
            let original = &texts[line.row];
            assert_ne!(&line.text, original);
            let (old, new): (Vec<&str>, Vec<&str>) =
                (original.split(' ').collect(), line.text.split(' ').collect());
            assert_eq!(old.len(), new.len(), "{original} | {}", line.text);
            for (old, new) in old.into_iter().zip(new) {
                // What is no whole word stays, and what replaces is one.
                let stays = !old.chars().any(char::is_alphabetic) || old == "zxyz";
                assert!(!stays || old == new, "{original} | {}", line.text);
                let word = new.trim_end_matches(',').to_lowercase();
                let known = tokenizer().whole_words().expect("words").iter().flatten().any(|w| *w == word);
                assert!(stays || known, "{new}");
            }
        }
        let copies = |row| lines.iter().filter(move |line| line.row == row).map(|line| &line.text);
        for row in seen {
            assert!(copies(row).count() <= settings.copies);
            assert_eq!(copies(row).collect::<BTreeSet<_>>().len(), copies(row).count());
        }
        // What was written is a data set.
        let corpus = load_texts(&spec(&path), &mut |_| ()).expect("it is read as data");
        assert_eq!(corpus.texts.len(), lines.len());
        std::fs::remove_file(path).expect("it is removed");
    }
}

#[test]
fn the_same_whatever_computes_it() {
    let (model, data) = (model(Task::MaskedLm), tempfile::tempdir().expect("a folder"));
    let rows = rows(data.path(), &texts(40));
    for settings in both() {
        let first = bytes(model.path(), &rows, &settings, &device("flex"));
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            assert_eq!(first, pool.install(|| bytes(model.path(), &rows, &settings, &device("flex"))));
        }
        assert_eq!(first, bytes(model.path(), &rows, &settings, &device("ndarray")));
        let other_batches = AugmentSettings { batch_size: 3, ..settings.clone() };
        assert_eq!(first, bytes(model.path(), &rows, &other_batches, &device("flex")));
        let other_seed = AugmentSettings { seed: 2, ..settings };
        assert_ne!(first, bytes(model.path(), &rows, &other_seed, &device("flex")));
    }
}

#[test]
fn found_again_without_a_model() {
    let (model, data) = (model(Task::MaskedLm), tempfile::tempdir().expect("a folder"));
    let rows = rows(data.path(), &texts(30));
    let flex = device("flex");
    let [settings, masked_lm] = both();
    let (first, loaded) = run(model.path(), &rows, &settings, &flex, data.path(), None);
    assert_eq!(loaded, 1);
    let first = first.expect("it is made");
    let again = AugmentSettings { batch_size: 1, ..settings.clone() };
    let (second, loaded) = run(model.path(), &rows, &again, &device("ndarray"), data.path(), None);
    assert_eq!((second.expect("it is found"), loaded), (first.clone(), 0));
    let fewer = Rows { rows: rows.rows[1..].to_vec(), ..rows.clone() };
    for (rows, settings) in [
        (&fewer, settings.clone()),
        (&rows, masked_lm),
        (&rows, AugmentSettings { seed: 2, ..settings.clone() }),
        (&rows, AugmentSettings { copies: 5, ..settings.clone() }),
        (&rows, AugmentSettings { probability: 0.41, ..settings.clone() }),
        (&rows, AugmentSettings { candidates: 6, ..settings.clone() }),
        (&rows, AugmentSettings { max_length: 39, ..settings.clone() }),
    ] {
        let (other, loaded) = run(model.path(), rows, &settings, &flex, data.path(), None);
        assert_ne!(other.expect("it is made"), first);
        assert_eq!(loaded, 1);
    }
    // Other weights make another file.
    let weights = model.path().join("model.safetensors");
    let mut changed = std::fs::read(&weights).expect("weights");
    *changed.last_mut().expect("a byte") ^= 0x80;
    std::fs::write(&weights, changed).expect("weights are written");
    let (other, _) = run(model.path(), &rows, &settings, &flex, data.path(), None);
    assert_ne!(other.expect("it is made"), first);
}

#[test]
fn an_interrupted_file_is_completed() {
    let (model, data) = (model(Task::MaskedLm), tempfile::tempdir().expect("a folder"));
    let rows = rows(data.path(), &texts(2800));
    let flex = device("flex");
    for settings in both() {
        let settings = AugmentSettings { copies: 1, batch_size: 256, ..settings };
        let whole = bytes(model.path(), &rows, &settings, &flex);
        let cache = tempfile::tempdir().expect("a folder");
        let names = || -> Vec<PathBuf> {
            let entries = std::fs::read_dir(cache.path()).expect("the cache");
            entries.map(|entry| entry.expect("an entry").path()).collect()
        };
        let (stopped, _) = run(model.path(), &rows, &settings, &flex, cache.path(), Some(1024));
        assert!(matches!(stopped, Err(TrainError::Interrupted)), "{stopped:?}");
        let folder = names();
        assert!(folder.len() == 1 && folder[0].is_dir(), "{folder:?}");
        // What a kill leaves of a part that was being written has another name, and is not read.
        std::fs::write(folder[0].join("whole-1"), "{\"text\": \"half a li").expect("a rest is written");
        let first_part = folder[0].join("00000000.jsonl");
        let before = std::fs::metadata(&first_part).and_then(|file| file.modified()).expect("a part");
        let (stopped, _) = run(model.path(), &rows, &settings, &flex, cache.path(), Some(2048));
        assert!(matches!(stopped, Err(TrainError::Interrupted)), "{stopped:?}");
        let after = std::fs::metadata(&first_part).and_then(|file| file.modified()).expect("a part");
        assert_eq!(before, after, "a finished part is kept");
        let (path, _) = run(model.path(), &rows, &settings, &flex, cache.path(), None);
        assert_eq!(std::fs::read(path.expect("it is made")).expect("it is read"), whole);
        assert_eq!(names().len(), 1, "nothing is left behind");
    }
}

#[test]
fn parts_that_are_complete_need_no_model() {
    let (model, data) = (classifier(), tempfile::tempdir().expect("a folder"));
    let rows = rows(data.path(), &texts(1200));
    let flex = device("flex");
    let settings = settings();
    let whole = bytes(model.path(), &rows, &settings, &flex);
    let tokenizer = Tokenizer::load(model.path()).expect("a tokenizer");
    let cache = Cache::new(data.path(), model.path(), &tokenizer, &rows, &settings).expect("a cache");
    let split = whole.len() / 2;
    cache.write(0, &whole[..split]).expect("a part");
    assert!(!cache.has_all());
    cache.write(1, &whole[split..]).expect("a part");
    let (path, loaded) = run(model.path(), &rows, &settings, &flex, data.path(), None);
    assert_eq!(std::fs::read(path.expect("it is joined")).expect("it is read"), whole);
    assert_eq!(loaded, 0);
}

#[test]
fn neighbours_are_the_nearest_by_cosine() {
    let folder = classifier();
    let request = |name| LoadRequest {
        task: Task::Classification { id2label: vec!["no".to_owned(), "yes".to_owned()] },
        head: HeadPolicy::MustMatch,
        seed: 0,
        device: device(name),
        dropout: None,
        adapter: None,
    };
    let tokenizer = tokenizer();
    let vocabulary = Vocabulary::new(&tokenizer, 128).expect("a vocabulary");
    let row = Row::new(0, "the bank and the printer", &tokenizer, &vocabulary, 40).expect("a row");
    let names = distill_models::parameters_to_host(
        load(folder.path(), request("flex")).expect("a model").model.as_ref(),
    );
    let (_, shape, table) =
        names.iter().find(|(name, ..)| name.ends_with("word_embeddings.weight")).expect("a table");
    let vector = |id: u32| &table[id as usize * shape[1]..(id as usize + 1) * shape[1]];
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine =
        |a, b| dot(vector(a), vector(b)) / (dot(vector(a), vector(a)) * dot(vector(b), vector(b))).sqrt();
    for name in RUNS_ON {
        let loaded = load(folder.path(), request(name)).expect("a model");
        let mut neighbours =
            Neighbours::new(loaded.model.as_ref(), &vocabulary, 5, &device(name)).expect("neighbours");
        let off = AtomicBool::new(false);
        let found = neighbours.candidates(std::slice::from_ref(&row), &off).expect("candidates");
        assert_eq!(row.places.len(), 5);
        for (place, found) in row.places.iter().zip(&found[0]) {
            let mut others: Vec<u32> =
                vocabulary.ids().iter().copied().filter(|id| *id != place.id).collect();
            others.sort_by(|a, b| cosine(place.id, *b).total_cmp(&cosine(place.id, *a)));
            assert_eq!(found, &others[..5], "{name}");
        }
    }
}

#[test]
fn candidates_are_the_most_probable_where_the_word_was() {
    let folder = model(Task::MaskedLm);
    let tokenizer = tokenizer();
    for name in RUNS_ON {
        let settings = AugmentSettings { replacements: Replacements::MaskedLm, ..settings() };
        let flex = device(name);
        let mut source = CandidateSource::load(
            folder.path(),
            &tokenizer,
            &settings,
            &flex,
            Precision::F32,
            &mut crate::Silent,
        )
        .expect("a model");
        // Six words that can be replaced, so that each is masked alone; and a longer row, whose words share passes.
        let texts = ["The bank broke, the printer again!", &"the bank sold a printer ".repeat(5)];
        let rows: Vec<Row> = (0..2)
            .map(|n| Row::new(n, texts[n], &tokenizer, &source.vocabulary, 40).expect("a row"))
            .collect();
        assert_eq!(rows[0].places.len(), 6);
        let off = AtomicBool::new(false);
        let found = source.candidates(&rows, &settings, &off, &mut |_| ()).expect("candidates");
        let Lookup::MaskedLm(model) = &source.lookup else { panic!("a masked language model was asked for") };
        for (row, found) in rows.iter().zip(&found) {
            let passes = row.places.len().min(7);
            for (number, place) in row.places.iter().enumerate() {
                let mut ids = row.ids.clone();
                for other in row.places.iter().skip(number % passes).step_by(passes) {
                    ids[other.token] = 4;
                }
                let mask = vec![1; ids.len()];
                let input = ModelInput::new(&ids, &mask, None, [1, ids.len()], &flex);
                let logits =
                    model.model.forward(&input, ForwardOptions::default(), &mut Dropout::off()).logits();
                let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
                let score = |id: u32| logits[place.token * 128 + id as usize];
                let mut others: Vec<u32> =
                    source.vocabulary.ids().iter().copied().filter(|id| *id != place.id).collect();
                others.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
                assert_eq!(found[number], others[..5], "{name}");
            }
        }
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_a_way_out() {
    let (classifier, masked) = (classifier(), model(Task::MaskedLm));
    let data = tempfile::tempdir().expect("a folder");
    let rows = rows(data.path(), &texts(12));
    let refused = |model: &Path, settings: &AugmentSettings| {
        let (made, _) = run(model, &rows, settings, &device("flex"), data.path(), None);
        let error = made.expect_err("it is refused");
        let shown = |text: String| text.replace(&model.display().to_string(), "M");
        (shown(error.to_string()), error.help().unwrap_or_default())
    };
    let [embeddings, masked_lm] = both();
    let (message, help) = refused(classifier.path(), &masked_lm);
    assert_eq!(message, "`M` is not a masked language model: it cannot say which words fit");
    assert!(help.contains("replacements = \"embeddings\""), "{help}");
    let (message, help) = refused(masked.path(), &AugmentSettings { max_length: 41, ..masked_lm.clone() });
    assert_eq!(message, "`max_length` is 41, the model reads at most 40 tokens");
    assert_eq!(help, "lower `max_length`");
    for settings in [
        AugmentSettings { copies: 0, ..embeddings.clone() },
        AugmentSettings { candidates: 0, ..embeddings.clone() },
        AugmentSettings { probability: 0.0, ..masked_lm.clone() },
    ] {
        let (message, help) = refused(masked.path(), &settings);
        assert_eq!(message, "no text has a word that can be replaced by another");
        assert!(help.contains("raise `copies`"), "{help}");
    }
    let (message, _) = refused(masked.path(), &AugmentSettings { max_length: 1, ..embeddings });
    assert_eq!(message, "`max_length` must be at least 2, the number of special tokens, found `1`");
    let path = masked.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&path).expect("a tokenizer").replace("[MASK]", "mask");
    std::fs::write(&path, text).expect("it is written");
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        std::fs::remove_file(masked.path().join(name)).expect("it is removed");
    }
    let (message, help) = refused(masked.path(), &masked_lm);
    assert_eq!(message, "the tokenizer of `M` has no mask token");
    assert!(help.contains("`mask_token`"), "{help}");
}
