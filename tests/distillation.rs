//! Students that learn from teachers: every method, every way to begin, what is cached, what is refused.

mod support;

use std::path::Path;
use support::tickets::{
    NARROW, ROWS, Recipe, caches, change_config, logged, masked, put, stranger, student, teacher_folder,
    tensor_names, weights,
};
use support::{distill, run, write};

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

/// `eval` and `predict` take the student.
#[track_caller]
fn assert_usable(folder: &Path) {
    let report = run(folder, &["eval", "student", "--data", "test.csv"]).success().stdout;
    assert_has(&report, &["accuracy", "billing"]);
    let line = run(folder, &["predict", "student", "--text", "where is my parcel?"]).success().stdout;
    assert!(!line.trim().is_empty());
    assert!(tensor_names(folder).iter().all(|name| !name.contains("projection")), "it is dropped on export");
}

/// The student's logits of the test rows, as predictions have them.
#[track_caller]
fn predictions(folder: &Path) -> Vec<(String, f64)> {
    let text = std::fs::read_to_string(folder.join("student/predictions.jsonl")).expect("predictions");
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let label = line["prediction"].as_str().expect("a label").to_owned();
        (label, line["score"].as_f64().expect("a probability"))
    };
    text.lines().map(line).collect()
}

#[test]
fn a_second_run_and_a_second_student_do_not_ask_the_teacher() {
    let folder = teacher_folder();
    let recipe = Recipe::default();
    assert_eq!(recipe.run(folder.path()).progress("asking the teacher `teacher`"), [180]);
    assert_eq!(caches(folder.path(), "logits").len(), 1, "beside the output folder");
    let first = weights(folder.path());
    assert!(!student(folder.path(), &["--overwrite"]).asked(), "the second run");
    assert!(weights(folder.path()) == first, "from a cache that was there the student is the same");

    let other = Recipe { student: NARROW, ..recipe };
    assert!(!other.run(folder.path()).asked(), "another student");
    assert!(!student(folder.path(), &["--set", "output_dir=third"]).asked(), "in another folder");

    // What the logits depend on has its own cache.
    assert!(student(folder.path(), &["--overwrite", "--set", "seed=8"]).asked(), "other rows");
    assert!(student(folder.path(), &["--overwrite", "--set", "data.max_length=16"]).asked(), "shorter texts");
    assert!(student(folder.path(), &["--overwrite", "--set", "distill.cache_dtype=f16"]).asked());
    assert_eq!(caches(folder.path(), "logits").len(), 4);
    // Weights that changed under the same name are another teacher.
    put(folder.path(), "teacher", &support::tickets::teacher_of_another_seed());
    assert!(student(folder.path(), &["--overwrite"]).asked(), "another teacher");
}

#[test]
fn a_cache_that_a_kill_left_half_written_is_completed() {
    let folder = teacher_folder();
    let recipe = Recipe { data: "train = \"train.csv\"", ..Recipe::default() };
    assert_eq!(recipe.run(folder.path()).progress("asking the teacher"), [512, 1024, ROWS as u64]);
    let (whole, first) = (caches(folder.path(), "logits").remove(0), weights(folder.path()));
    let (bytes, partial) = (std::fs::read(&whole).expect("reads"), whole.with_extension("partial"));
    let again = || {
        let asked = student(folder.path(), &["--overwrite"]).progress("asking the teacher");
        assert!(weights(folder.path()) == first, "the student is the same");
        assert!(std::fs::read(&whole).expect("the cache is whole again") == bytes);
        assert!(!partial.exists());
        asked
    };
    assert!(again().is_empty());

    // Killed in the second of three parts.
    std::fs::remove_file(&whole).expect("removes");
    write(&partial, &bytes[..bytes.len() * 2 / 3]);
    assert_eq!(again(), [1024, ROWS as u64], "only what is missing is asked");
    // A part whose bytes are not those that were written, behind good ones.
    std::fs::remove_file(&whole).expect("removes");
    let mut damaged = bytes.clone();
    damaged[bytes.len() * 2 / 3] ^= 1;
    write(&partial, &damaged);
    assert_eq!(again(), [1024, ROWS as u64]);
    // Something else under that name.
    std::fs::remove_file(&whole).expect("removes");
    write(&partial, b"not a cache");
    assert_eq!(again(), [512, 1024, ROWS as u64]);
    // A finished cache that was damaged later is not trusted.
    write(&whole, &damaged);
    assert_eq!(again(), [512, 1024, ROWS as u64]);
    write(&whole, &bytes[..bytes.len() - 1]);
    assert_eq!(again(), [512, 1024, ROWS as u64]);
}

#[test]
fn two_students_at_once_share_a_cache() {
    let folder = teacher_folder();
    Recipe { data: "train = \"train.csv\"", ..Recipe::default() }.write(folder.path());
    let start = |output: &str| {
        let set = format!("output_dir={output}");
        let arguments = ["run", "student.toml", "--quiet", "--set", &set, "--set", "train.max_steps=2"];
        distill(folder.path(), &arguments).spawn().expect("the binary starts")
    };
    for child in [start("one"), start("two"), start("three")] {
        let output = child.wait_with_output().expect("ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(caches(folder.path(), "logits").len(), 1);
    assert!(caches(folder.path(), "partial").is_empty());
    let [one, three] =
        ["one", "three"].map(|run| std::fs::read(folder.path().join(run).join("model.safetensors")));
    assert!(one.expect("weights") == three.expect("weights"));
}

#[test]
fn cached_logits_teach_as_a_teacher_that_runs_along() {
    let folder = teacher_folder();
    let recipe = Recipe { distill: "losses = [{ kind = \"soft_labels\" }]", ..Recipe::default() };
    assert!(recipe.run(folder.path()).asked());
    let cached = logged(folder.path(), "train");
    let live = ["--overwrite", "--set", "distill.cache_teacher=false"];
    assert!(!student(folder.path(), &live).asked());
    let live = logged(folder.path(), "train");
    let f16 = ["--overwrite", "--set", "distill.cache_dtype=f16"];
    assert!(student(folder.path(), &f16).asked());
    let f16 = logged(folder.path(), "train");
    assert_eq!(cached.len(), live.len());
    for (cached, (live, f16)) in cached.iter().zip(live.iter().zip(&f16)) {
        let [cached, live, f16] = [cached, live, f16].map(|line| line["loss"].as_f64().expect("a loss"));
        assert!((cached - live).abs() < 1e-4 * cached.abs(), "{cached} {live}");
        assert!((cached - f16).abs() < 1e-2 * cached.abs(), "{cached} {f16}");
    }
}

#[test]
fn labels_in_another_order_are_matched_by_name() {
    let folder = teacher_folder();
    let recipe = Recipe::default();
    recipe.run(folder.path());
    let labels = predictions(folder.path());
    support::tickets::reverse_labels(&folder.path().join("teacher"));
    for cache in ["true", "false"] {
        let set = format!("distill.cache_teacher={cache}");
        student(folder.path(), &["--overwrite", "--set", &set]);
        let found = predictions(folder.path());
        let apart = labels.iter().zip(&found).filter(|(one, other)| one.0 != other.0).count();
        assert_eq!(apart, 0, "the same student");
        let far = labels.iter().zip(&found).map(|(one, other)| (one.1 - other.1).abs()).fold(0.0, f64::max);
        assert!(far < 1e-3, "{far}");
    }
    let plan = run(folder.path(), &["plan", "student.toml"]).success().stdout;
    assert_has(&plan, &["labels in another order"]);

    // The student has the order of the data, also where its head is the teacher's.
    let head = "losses = [{ kind = \"soft_labels\" }]";
    Recipe { distill: head, student: "init = \"from_teacher\"", ..recipe }.run(folder.path());
    let config = support::read_json(folder.path().join("student/config.json"));
    assert_eq!(config["id2label"]["0"], "billing");
    let accuracy = |model: &str| {
        let report = run(folder.path(), &["eval", model, "--data", "test.csv", "--json"]).success();
        let report: serde_json::Value = serde_json::from_str(&report.stdout).expect("JSON");
        report["accuracy"].as_f64().unwrap_or_else(|| panic!("no accuracy in {report}"))
    };
    let (of_teacher, of_student) = (accuracy("teacher"), accuracy("student"));
    assert!(of_teacher > 0.5 && of_student > of_teacher - 0.1, "{of_student}, the teacher {of_teacher}");
}

#[test]
fn a_teacher_without_names_needs_them() {
    let folder = teacher_folder();
    let recipe = Recipe::default();
    recipe.run(folder.path());
    let first = weights(folder.path());
    std::fs::remove_dir_all(folder.path().join("student")).expect("removes");
    let names = ["billing", "bug_report", "cancellation", "login", "refund", "shipping"];
    change_config(&folder.path().join("teacher"), |config| {
        let unnamed = |index| (index, format!("LABEL_{index}"));
        let unnamed = (0..names.len()).map(unnamed);
        config["label2id"] =
            unnamed.clone().map(|(id, name)| (name, id.into())).collect::<serde_json::Map<_, _>>().into();
        let id2label = unnamed.map(|(id, name)| (id.to_string(), name.into()));
        config["id2label"] = id2label.collect::<serde_json::Map<_, _>>().into();
    });
    insta::assert_snapshot!(recipe.refusal(folder.path()));
    let two =
        Recipe { teacher: "path = \"teacher\"\nlabels = [\"billing\", \"login\"]", ..Recipe::default() };
    insta::assert_snapshot!(two.refusal(folder.path()));
    let teacher = format!("path = \"teacher\"\nlabels = {names:?}");
    Recipe { teacher: &teacher, ..recipe }.run(folder.path());
    assert!(weights(folder.path()) == first, "the same student");
}

#[test]
fn other_labels_are_refused_with_their_names() {
    let folder = teacher_folder();
    let text = std::fs::read_to_string(folder.path().join("train.csv")).expect("reads");
    let text: String =
        text.lines().filter(|line| !line.ends_with(",login")).flat_map(|line| [line, "\n"]).collect();
    write(folder.path().join("train.csv"), text.replace(",refund\n", ",payback\n"));
    let recipe = Recipe { data: "train = \"train.csv\"", ..Recipe::default() };
    insta::assert_snapshot!(recipe.refusal(folder.path()));
    // Losses that look at no logits do not care.
    let inside = Recipe { distill: "losses = [{ kind = \"hidden_states\" }]", ..recipe };
    inside.write(folder.path());
    student(folder.path(), &["--set", "train.max_steps=2"]);
}

#[test]
fn a_teacher_with_other_tokens_teaches_whole_texts_only() {
    let folder = teacher_folder();
    put(folder.path(), "stranger", stranger());
    let teacher = "path = \"stranger\"";
    let student = "path = \"teacher\"";
    let recipe = Recipe { teacher, student, ..Recipe::default() };
    assert!(recipe.run(folder.path()).asked());
    let cached = logged(folder.path(), "train");
    support::tickets::student(folder.path(), &["--overwrite", "--set", "distill.cache_teacher=false"]);
    for (cached, live) in cached.iter().zip(&logged(folder.path(), "train")) {
        let [cached, live] = [cached, live].map(|line| line["loss"].as_f64().expect("a loss"));
        assert!((cached - live).abs() < 1e-3 * cached.abs(), "{cached} {live}");
    }
    let plan = run(folder.path(), &["plan", "student.toml"]).success().stdout;
    assert_has(
        &plan,
        &["stranger (bert", "with a tokenizer of its own", "once, its logits are kept on disk"],
    );
    std::fs::remove_dir_all(folder.path().join("student")).expect("removes");

    let losses =
        "losses = [\n  { kind = \"soft_labels\" },\n  { kind = \"hidden_states\", layer_map = \"last\" },\n]";
    insta::assert_snapshot!(
        Recipe { teacher, student, distill: losses, ..Recipe::default() }.refusal(folder.path())
    );
    let method = "method = \"tinybert\"";
    insta::assert_snapshot!(
        Recipe { teacher, student, distill: method, ..Recipe::default() }.refusal(folder.path())
    );
}

#[test]
fn heads_are_compared_where_there_are_as_many() {
    let folder = teacher_folder();
    let student = NARROW.replace("num_attention_heads = 4", "num_attention_heads = 2");
    let losses = "losses = [\n  { kind = \"attention\", weight = 2.0 },\n  { kind = \"relations\" },\n]";
    let recipe = Recipe { student: &student, distill: losses, ..Recipe::default() };
    insta::assert_snapshot!(recipe.refusal(folder.path()));
    let recipe = Recipe { distill: "losses = [{ kind = \"relations\" }]", ..recipe };
    recipe.run(folder.path());
}

#[test]
fn several_teachers_are_averaged_by_weight() {
    let folder = teacher_folder();
    let losses = "losses = [{ kind = \"soft_labels\" }]";
    let student = "path = \"teacher\"";
    Recipe { student, distill: losses, ..Recipe::default() }.run(folder.path());
    let alone = logged(folder.path(), "train");
    put(folder.path(), "stranger", stranger());
    let both = |weight: &str| {
        let teacher = format!(
            "models = [\n  {{ path = \"teacher\", weight = 3 }},\n  {{ path = \"stranger\", weight = {weight} }},\n]"
        );
        let recipe = Recipe { teacher: &teacher, student, distill: losses, ..Recipe::default() };
        (recipe.run(folder.path()).progress("asking the teacher").len(), logged(folder.path(), "train"))
    };
    let loss =
        |lines: &[serde_json::Value]| lines.last().and_then(|line| line["loss"].as_f64()).expect("a loss");
    let (asked, nearly_alone) = both("1e-6");
    assert_eq!(asked, 1, "the first one's logits are there already");
    assert!((loss(&alone) - loss(&nearly_alone)).abs() < 1e-3 * loss(&alone));
    let (asked, both) = both("1");
    assert_eq!(asked, 0);
    assert!((loss(&alone) - loss(&both)).abs() > 1e-2 * loss(&alone), "the second one counts");
    let plan = run(folder.path(), &["plan", "student.toml"]).success().stdout;
    assert_has(&plan, &["weight 0.75", "weight 0.25"]);
    std::fs::remove_dir_all(folder.path().join("student")).expect("removes");

    let teacher = "models = [{ path = \"teacher\" }, { path = \"stranger\" }]";
    let distill = "losses = [\n  { kind = \"soft_labels\" },\n  { kind = \"cosine\" },\n]";
    insta::assert_snapshot!(Recipe { teacher, student, distill, ..Recipe::default() }.refusal(folder.path()));
}

#[test]
fn a_student_can_teach_itself() {
    let folder = teacher_folder();
    let teacher = "self_distillation = true";
    let recipe = Recipe { teacher, student: "path = \"teacher\"", ..Recipe::default() };
    assert!(recipe.run(folder.path()).asked());
    let first = weights(folder.path());
    assert!(!student(folder.path(), &["--overwrite"]).asked(), "its start is the same");
    assert!(weights(folder.path()) == first);
    // The start stays the teacher while the student moves away from it.
    let inside = "losses = [{ kind = \"hidden_states\" }, { kind = \"soft_labels\" }]";
    Recipe { distill: inside, ..recipe }.run(folder.path());
    let moved =
        logged(folder.path(), "train").last().and_then(|line| line["losses"]["hidden_states"].as_f64());
    assert!(moved.is_some_and(|loss| loss > 0.0), "{moved:?}");
    std::fs::remove_dir_all(folder.path().join("student")).expect("removes");
    insta::assert_snapshot!(Recipe { teacher, ..Recipe::default() }.refusal(folder.path()));
}

/// Each way to begin, with a loss inside the models where there is a projection or a choice of layers.
#[test]
fn a_student_begins_in_many_ways() {
    let folder = teacher_folder();
    let scratch = "architecture = \"distilbert\"\nhidden_size = 16\nnum_hidden_layers = 1\nnum_attention_heads = 2\n\
                   intermediate_size = 32\nmax_position_embeddings = 48";
    let albert = "init = \"from_teacher\"\narchitecture = \"albert\"\nembedding_size = 8\nhidden_size = 24\n\
                  num_hidden_layers = 3\nnum_attention_heads = 4\nintermediate_size = 48";
    let tokenizer = "\n[tokenizer]\npath = \"teacher\"\n";
    let forms = [
        ("path = \"teacher\"", "", "the model"),
        (scratch, tokenizer, "from scratch"),
        ("init = \"from_teacher\"\nlayers = [1, 2]", "", "the teacher's 1, 2"),
        ("init = \"from_teacher\"\nlayers = \"even\"\nnum_hidden_layers = 2", "", "the teacher's 0, 2"),
        (NARROW, "", "of their energy kept"),
        (albert, "", "of their energy kept"),
    ];
    let distill = "losses = [{ kind = \"soft_labels\" }, { kind = \"hidden_states\" }]";
    for (form, more, told) in forms {
        let recipe = Recipe { student: form, distill, more, ..Recipe::default() };
        recipe.write(folder.path());
        let plan = run(folder.path(), &["plan", "student.toml"]).success().stdout;
        assert_has(&plan, &[if told == "the model" { "teacher (bert)" } else { told }]);
        student(folder.path(), &["--overwrite", "--set", "train.max_steps=3"]);
        assert_usable(folder.path());
    }
}

#[test]
fn every_method_logs_its_losses_and_learns() {
    let folder = teacher_folder();
    let methods: [(&str, &[&str]); 4] = [
        ("soft_labels", &["hard_labels", "soft_labels"]),
        ("distilbert", &["soft_labels", "hard_labels", "cosine"]),
        ("tinybert", &["attention", "hidden_states", "embeddings", "soft_labels"]),
        ("minilm", &["relations", "soft_labels"]),
    ];
    for (method, losses) in methods {
        let distill = format!("method = \"{method}\"\ntemperature = 3.0");
        let recipe = Recipe { student: NARROW, distill: &distill, ..Recipe::default() };
        recipe.write(folder.path());
        let plan = run(folder.path(), &["plan", "student.toml"]).success().stdout;
        assert_has(&plan, &[&format!("{method}, which stands for:"), "temperature = 3.0"]);
        for loss in losses {
            assert_has(&plan, &[&format!("{{ kind = \"{loss}\", weight = ")]);
        }
        student(folder.path(), &["--overwrite"]);
        let lines = logged(folder.path(), "train");
        let [first, last] = [lines.first(), lines.last()].map(|line| line.expect("logged lines"));
        let names: Vec<&str> =
            last["losses"].as_object().expect("losses").keys().map(String::as_str).collect();
        let mut sorted = losses.to_vec();
        sorted.sort_unstable();
        assert!(names.iter().all(|name| sorted.contains(name)) && names.len() == sorted.len(), "{names:?}");
        assert!(last["loss"].as_f64() < first["loss"].as_f64(), "{method}: {first} {last}");
        assert_usable(folder.path());
        // The student reads as the losses of its run say.
        let record = support::read_json(folder.path().join("student/run.json"));
        for loss in losses {
            assert!(
                record["metrics"]["train"]["losses"][loss].as_f64().is_some_and(f64::is_finite),
                "{record}"
            );
        }
    }
}

#[test]
fn losses_that_ask_no_teacher_load_none() {
    let folder = teacher_folder();
    let recipe = Recipe { distill: "losses = [{ kind = \"hard_labels\" }]", ..Recipe::default() };
    let events = recipe.run(folder.path());
    assert!(!events.asked());
    assert!(caches(folder.path(), "logits").is_empty());
}

/// The tickets with another column, `seen`, made of the texts.
fn with_seen(folder: &Path, seen: impl Fn(&[&str]) -> Vec<String>) {
    let text = std::fs::read_to_string(folder.join("train.csv")).expect("reads");
    let rows: Vec<(&str, &str)> = text.lines().skip(1).filter_map(|line| line.rsplit_once(',')).collect();
    let texts: Vec<&str> = rows.iter().map(|(text, _)| *text).collect();
    let rows = rows.iter().zip(seen(&texts)).map(|((text, label), seen)| format!("{text},{label},{seen}\n"));
    write(folder.join("seen.csv"), format!("text,label,seen\n{}", rows.collect::<String>()));
}

#[test]
fn a_teacher_can_read_what_the_student_does_not_see() {
    let folder = teacher_folder();
    let data = "train = \"seen.csv\"\ntest = \"test.csv\"\nmax_rows = 200";
    let alike = Recipe { data, ..Recipe::default() };
    let seeing = Recipe { teacher: "path = \"teacher\"\ntext = \"seen\"", ..alike };
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    with_seen(folder.path(), texts);
    alike.run(folder.path());
    let by_its_text = weights(folder.path());
    // The test file has no such column: a teacher is asked of training rows alone.
    assert!(seeing.run(folder.path()).asked(), "a cache of its own");
    assert!(weights(folder.path()) == by_its_text, "the same text in another column");
    let plan = run(folder.path(), &["plan", "student.toml"]).success().stdout;
    assert_has(&plan, &["parameters), reads `seen`", "once, its logits are kept on disk"]);
    assert_usable(folder.path());

    with_seen(folder.path(), |texts| texts.iter().rev().map(|text| (*text).to_owned()).collect());
    assert!(seeing.run(folder.path()).asked());
    let by_others = weights(folder.path());
    assert!(by_others != by_its_text, "the texts of other rows");
    let cached = logged(folder.path(), "train");
    student(folder.path(), &["--overwrite", "--set", "distill.cache_teacher=false"]);
    for (cached, live) in cached.iter().zip(&logged(folder.path(), "train")) {
        let [cached, live] = [cached, live].map(|line| line["loss"].as_f64().expect("a loss"));
        assert!((cached - live).abs() < 1e-3 * cached.abs(), "{cached} {live}");
    }
    let both = Recipe { teacher: "path = \"teacher\"\ntext = [\"text\", \"seen\"]", ..alike };
    assert!(both.run(folder.path()).asked(), "both columns");
    assert!(![by_its_text, by_others].contains(&weights(folder.path())));

    std::fs::remove_dir_all(folder.path().join("student")).expect("removes");
    let told = |recipe: Recipe<'_>| recipe.refusal(folder.path());
    let inside = "losses = [{ kind = \"cosine\" }]";
    insta::assert_snapshot!("other_columns_and_inside", told(Recipe { distill: inside, ..seeing }));
    let augment = "\n[augment]\ncopies = 2\n";
    insta::assert_snapshot!("other_columns_and_copies", told(Recipe { more: augment, ..seeing }));
    let missing = Recipe { teacher: "path = \"teacher\"\ntext = \"sene\"", ..seeing };
    missing.write(folder.path());
    let outcome = run(folder.path(), &["run", "student.toml", "--quiet"]);
    assert_ne!(outcome.code, Some(0));
    assert_has(&outcome.stderr, &["`sene`", "seen.csv"]);
}

#[test]
fn transfer_texts_are_labelled_by_the_teacher() {
    let folder = teacher_folder();
    // None of them is a validation or test row, which would be left out.
    let corpus = std::fs::read_to_string("../../datasets/support_tickets/unlabelled.txt").expect("reads");
    let some = |skip: usize, take: usize| corpus.lines().skip(skip).take(take).flat_map(|line| [line, "\n"]);
    write(folder.path().join("more.txt"), some(300, 60).collect::<String>());
    let rows = some(400, 60).filter(|line| *line != "\n").map(|line| format!("\"{line}\",?\n"));
    write(folder.path().join("more.csv"), format!("text,label\n{}", rows.collect::<String>()));
    let transfer = "transfer_data = [\"more.txt\", \"more.csv\"]";
    for (transfer, rows) in
        [(transfer, 120), ("transfer_data = \"more.txt\"", 60), ("transfer_data = \"more.csv\"", 60)]
    {
        let distill = format!("method = \"soft_labels\"\n{transfer}");
        let recipe = Recipe { distill: &distill, ..Recipe::default() };
        recipe.write(folder.path());
        let plan = run(folder.path(), &["plan", "student.toml"]).success().stdout;
        assert_has(&plan, &[&format!("{rows} of the rows are labelled by the teacher alone")]);
        student(folder.path(), &["--overwrite", "--set", "train.epochs=1"]);
        let record = support::read_json(folder.path().join("student/run.json"));
        assert_eq!(record["rows"]["train"], 180 + rows);
    }
    assert!(!student(folder.path(), &["--overwrite"]).asked(), "each file has its own cache");
    assert_usable(folder.path());

    let own = "method = \"soft_labels\"\ntransfer_data = \"train.csv\"";
    let recipe = Recipe { distill: own, ..Recipe::default() };
    let left_out = "20 texts of `transfer_data` are left out: they are validation or test rows";
    assert!(recipe.run(folder.path()).messages().contains(&left_out));
    let record = support::read_json(folder.path().join("student/run.json"));
    assert_eq!(record["rows"]["train"], 180 + ROWS - 20);

    let unused = "losses = [{ kind = \"hard_labels\" }]\ntransfer_data = \"more.txt\"";
    let events = Recipe { distill: unused, ..Recipe::default() }.run(folder.path());
    assert!(events.messages().iter().any(|message| message.contains("`transfer_data` is read for nothing")));
}

#[test]
fn changed_copies_are_made_once() {
    let folder = teacher_folder();
    let augment = "\n[augment]\ncopies = 2\n";
    let recipe = Recipe { more: augment, ..Recipe::default() };
    let events = recipe.run(folder.path());
    assert!(!events.progress("augmenting").is_empty() && events.asked());
    let record = support::read_json(folder.path().join("student/run.json"));
    let rows = record["rows"]["train"].as_u64().expect("rows");
    assert!(rows > 180 && rows <= 3 * 180, "{rows}");
    let first = weights(folder.path());
    let events = student(folder.path(), &["--overwrite"]);
    assert!(events.progress("augmenting").is_empty() && !events.asked(), "both are on the disk");
    assert!(weights(folder.path()) == first);
    let plan = run(folder.path(), &["plan", "student.toml"]).success().stdout;
    assert_has(&plan, &["up to 2 changed copies of each text"]);

    // By a masked language model, which the classifier is not.
    std::fs::remove_dir_all(folder.path().join("student")).expect("removes");
    let augment = "\n[augment]\ncopies = 1\nreplacements = \"masked_lm\"\n";
    let stderr = Recipe { more: augment, ..Recipe::default() }.refusal(folder.path());
    assert_has(&stderr, &["`teacher` is not a masked language model"]);
    put(folder.path(), "masked", masked());
    let augment = format!("{augment}path = \"masked\"\n");
    let events = Recipe { more: &augment, ..Recipe::default() }.run(folder.path());
    assert!(!events.progress("augmenting").is_empty());
}

#[test]
fn mistakes_are_told_at_their_place() {
    let folder = teacher_folder();
    let told = |recipe: Recipe<'_>| recipe.refusal(folder.path());
    let recipe = || Recipe { student: "path = \"teacher\"", ..Recipe::default() };
    let losses = |losses: &str| {
        let distill = format!("losses = [\n  {{ kind = \"soft_labels\" }},\n  {losses},\n]");
        told(Recipe { distill: &distill, ..recipe() })
    };
    insta::assert_snapshot!("unknown_loss", losses("{ kind = \"hiden_states\" }"));
    insta::assert_snapshot!(
        "unknown_key_of_a_loss",
        losses("{ kind = \"attention\", layer_mapp = \"last\" }")
    );
    insta::assert_snapshot!("a_key_of_another_tool", losses("{ kind = \"cosine\", temperature = 2.0 }"));
    insta::assert_snapshot!(
        "a_layer_that_is_not_there",
        losses("{ kind = \"hidden_states\", layer_map = [[0, 1], [1, 3]] }")
    );
    insta::assert_snapshot!(
        "an_unknown_layer_map",
        losses("{ kind = \"attention\", layer_map = \"first\" }")
    );
    insta::assert_snapshot!("a_negative_weight", losses("{ kind = \"cosine\", weight = -1.0 }"));
    insta::assert_snapshot!("a_loss_of_language_models", losses("{ kind = \"masked_lm\" }"));
    let both = "method = \"tinybert\"\nlosses = [{ kind = \"cosine\" }]";
    insta::assert_snapshot!("method_and_losses", told(Recipe { distill: both, ..recipe() }));
    insta::assert_snapshot!("unknown_method", told(Recipe { distill: "method = \"tiny\"", ..recipe() }));
    insta::assert_snapshot!(
        "temperature_of_no_method",
        told(Recipe { distill: "losses = [{ kind = \"soft_labels\" }]\ntemperature = 2", ..recipe() })
    );
    insta::assert_snapshot!("no_teacher_named", told(Recipe { teacher: "", ..recipe() }));
    insta::assert_snapshot!(
        "layers_that_are_not_there",
        told(Recipe { student: "init = \"from_teacher\"\nlayers = [0, 3]", ..recipe() })
    );
    insta::assert_snapshot!(
        "even_without_a_number",
        told(Recipe { student: "init = \"from_teacher\"\nlayers = \"even\"", ..recipe() })
    );
    insta::assert_snapshot!(
        "wider_than_the_teacher",
        told(Recipe { student: &NARROW.replace("16", "128"), ..recipe() })
    );
    let inside = "losses = [{ kind = \"hidden_states\" }]";
    recipe().write(folder.path());
    let text = std::fs::read_to_string(folder.path().join("student.toml")).expect("reads");
    let of = |text: String| {
        write(folder.path().join("student.toml"), text);
        run(folder.path(), &["run", "student.toml", "--quiet"]).refusal()
    };
    let metric = text.replace("[train]", "[train]\nmetric_for_best_model = \"accuracy\"");
    insta::assert_snapshot!(
        "a_metric_of_a_head_that_does_not_learn",
        of(metric.replace("method = \"soft_labels\"", inside))
    );
    let teacher = "[teacher]\npath = \"teacher\"\n\n";
    let distill = "[distill]\nmethod = \"soft_labels\"\n\n";
    insta::assert_snapshot!(
        "a_student_without_a_teacher",
        of(text.replace(teacher, "").replace(distill, ""))
    );
    insta::assert_snapshot!("a_student_with_distill_alone", of(text.replace(teacher, "")));
    insta::assert_snapshot!("a_teacher_without_distill", of(text.replace(distill, "")));
    insta::assert_snapshot!("a_model_with_a_teacher", of(text.replace("[student]", "[model]")));
    put(folder.path(), "masked", masked());
    insta::assert_snapshot!(
        "a_teacher_that_is_no_classifier",
        told(Recipe { teacher: "path = \"masked\"", ..recipe() })
    );
}
