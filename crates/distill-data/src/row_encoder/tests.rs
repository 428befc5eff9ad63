use super::*;
use crate::content::ContentHash;
use crate::language_source::{Answers, LanguageSpec, RowKind, scan_language_rows};
use crate::marks::{id, split};
use crate::source::DataSpec;
use crate::token_cache::{CacheKey, TokenizedDataset};
use crate::{TextUnit, read_language_rows};

/// A character a token, `</s>` as the end, and the special tokens of the templates below.
fn character_tokenizer(template: Option<&str>, post_processor: &str) -> Tokenizer {
    let special = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|header|>", "<|end|>", "<|eot|>"];
    let added: Vec<String> = special
        .iter()
        .enumerate()
        .map(|(id, token)| {
            format!(
                r#"{{"id": {id}, "content": "{token}", "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true}}"#
            )
        })
        .collect();
    let characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,:?!\n".chars();
    let mut vocab: serde_json::Map<String, serde_json::Value> = serde_json::Map::new();
    for (id, token) in
        special.iter().map(|token| (*token).to_owned()).chain(characters.map(String::from)).enumerate()
    {
        vocab.insert(token, id.into());
    }
    let json = format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [{}],
            "normalizer": null, "pre_tokenizer": null, "post_processor": {post_processor},
            "decoder": {{"type": "Fuse"}},
            "model": {{"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "vocab": {}, "merges": []}}}}"#,
        added.join(", "),
        serde_json::Value::Object(vocab),
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), json).unwrap();
    let settings = r#"{"bos_token": "<s>", "eos_token": "</s>"}"#;
    std::fs::write(folder.path().join("tokenizer_config.json"), settings).unwrap();
    if let Some(template) = template {
        std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    }
    Tokenizer::load(folder.path()).unwrap()
}

const NOTHING: &str = "null";
const BOS: &str = r#"{"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}"#;
const EOS: &str = r#"{"type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}}"#;

const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const HEADERS: &str = "{{ bos_token }}{% for message in messages %}{{'<|header|>' + message['role'] + '<|end|>\n\n' + message['content'] | trim + '<|eot|>'}}{% endfor %}{% if add_generation_prompt %}{{ '<|header|>assistant<|end|>\n\n' }}{% endif %}";

/// The tokens as text, learnt ones in brackets.
fn shown(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let mut text = String::new();
    for run in tokens.chunk_by(|a, b| is_learnt(*a) == is_learnt(*b)) {
        let ids: Vec<u32> = run.iter().map(|token| id(*token)).collect();
        let run_text = tokenizer.decode_with_special_tokens(&ids).unwrap();
        text += &if is_learnt(run[0]) { format!("[{run_text}]") } else { run_text };
    }
    text
}

fn encoded(tokenizer: &Tokenizer, layout: Layout, max_length: usize, row: &RowParts) -> (String, usize) {
    let encoder = RowEncoder::new(tokenizer, layout, max_length).unwrap();
    let encoded = encoder.encode(row).unwrap();
    (shown(tokenizer, &encoded.ids), encoded.full_length)
}

fn pair(prompt: &str, target: &str) -> RowParts {
    RowParts::Pair { prompt: prompt.to_owned(), targets: vec![target.to_owned(), "other".to_owned()] }
}

fn conversation() -> RowParts {
    RowParts::Chat(vec![
        Message::new(Role::System, "S"),
        Message::new(Role::User, "one"),
        Message::new(Role::Assistant, "A a"),
        Message::new(Role::User, "two"),
        Message::new(Role::Assistant, "B\n"),
    ])
}

#[test]
fn documents_are_learnt_whole_and_never_cut() {
    let document = RowParts::Document("ab c".to_owned());
    for (post_processor, expected) in [(NOTHING, "[ab c</s>]"), (BOS, "[<s>ab c</s>]"), (EOS, "[ab c</s>]")] {
        let tokenizer = character_tokenizer(None, post_processor);
        let (text, length) = encoded(&tokenizer, Layout::Decoder, 3, &document);
        assert_eq!(
            (text.as_str(), length),
            (expected, expected.replace("<s>", "b").replace("</s>", "e").len() - 2)
        );
    }
}

#[test]
fn targets_are_learnt_and_prompts_cut_at_their_start() {
    let tokenizer = character_tokenizer(None, BOS);
    let decoder = |max_length, row: &RowParts| encoded(&tokenizer, Layout::Decoder, max_length, row);
    let row = pair("abcd:", " xyz");
    assert_eq!(decoder(100, &row), ("<s>abcd:[ xyz</s>]".to_owned(), 11));
    assert_eq!(decoder(11, &row).0, "<s>abcd:[ xyz</s>]");
    assert_eq!(decoder(10, &row), ("<s>bcd:[ xyz</s>]".to_owned(), 11));
    assert_eq!(decoder(6, &row).0, "<s>[ xyz</s>]");
    assert_eq!(decoder(4, &row), ("<s>[ xy]".to_owned(), 11));
    let without = character_tokenizer(None, EOS);
    assert_eq!(encoded(&without, Layout::Decoder, 8, &row), ("cd:[ xyz</s>]".to_owned(), 10));
}

#[test]
fn encoders_get_the_start_of_a_prompt_and_its_end_token() {
    for post_processor in [EOS, NOTHING] {
        let tokenizer = character_tokenizer(None, post_processor);
        let both =
            |max_length| encoded(&tokenizer, Layout::EncoderDecoder, max_length, &pair("abcd:", "xyz"));
        assert_eq!(both(100), ("abcd:</s>[xyz</s>]".to_owned(), 10));
        assert_eq!(both(4), ("abc</s>[xyz</s>]".to_owned(), 10));
        assert_eq!(both(3), ("ab</s>[xyz]".to_owned(), 10));
        let encoder = RowEncoder::new(&tokenizer, Layout::EncoderDecoder, 4).unwrap();
        let prompt = encoder.prompt(&pair("abcd:", "xyz")).unwrap();
        assert_eq!((shown(&tokenizer, &prompt.ids), prompt.full_length), ("abc</s>".to_owned(), 6));
        for row in [conversation(), RowParts::Document("a".to_owned())] {
            assert!(matches!(encoder.encode(&row), Err(TokenizerError::NotForEncoderDecoders)));
        }
    }
}

#[test]
fn answers_of_a_conversation_are_learnt_with_what_ends_them() {
    let chat_ml = character_tokenizer(Some(CHATML), NOTHING);
    let expected = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\none<|im_end|>\n\
        <|im_start|>assistant\n[A a<|im_end|>]\n<|im_start|>user\ntwo<|im_end|>\n\
        <|im_start|>assistant\n[B\n<|im_end|>]\n";
    assert_eq!(encoded(&chat_ml, Layout::Decoder, 200, &conversation()).0, expected);
    // The template puts `<s>` itself; the tokenizer must not put another.
    let headers = character_tokenizer(Some(HEADERS), BOS);
    let expected = "<s><|header|>system<|end|>\n\nS<|eot|><|header|>user<|end|>\n\none<|eot|>\
        <|header|>assistant<|end|>\n\n[A a<|eot|>]<|header|>user<|end|>\n\ntwo<|eot|>\
        <|header|>assistant<|end|>\n\n[B<|eot|>]";
    assert_eq!(encoded(&headers, Layout::Decoder, 200, &conversation()).0, expected);
    let plain = "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n\n{% endfor %}";
    let plain = character_tokenizer(Some(plain), NOTHING);
    let expected = "system: S\n\nuser: one\n\nassistant: [A a\n\n]user: two\n\nassistant: [B\n\n]";
    assert_eq!(encoded(&plain, Layout::Decoder, 200, &conversation()).0, expected);
}

#[test]
fn long_conversations_lose_their_oldest_exchange_first() {
    let tokenizer = character_tokenizer(Some(HEADERS), BOS);
    let decoder = |max_length| encoded(&tokenizer, Layout::Decoder, max_length, &conversation());
    let (whole, length) = decoder(200);
    assert_eq!(decoder(length).0, whole);
    let shorter = "<s><|header|>system<|end|>\n\nS<|eot|><|header|>user<|end|>\n\ntwo<|eot|>\
        <|header|>assistant<|end|>\n\n[B<|eot|>]";
    assert_eq!(decoder(length - 1), (shorter.to_owned(), length));
    assert_eq!(decoder(18), ("wo<|eot|><|header|>assistant<|end|>\n\n[B<|eot|>]".to_owned(), length));
    let row = RowParts::Chat(vec![Message::new(Role::User, "a"), Message::new(Role::Assistant, "xyz")]);
    assert_eq!(encoded(&tokenizer, Layout::Decoder, 3, &row).0, "[xyz]");
}

#[test]
fn prompts_end_where_the_model_begins() {
    let tokenizer = character_tokenizer(Some(HEADERS), BOS);
    let prompt = |max_length, row: &RowParts| {
        let prompt = RowEncoder::new(&tokenizer, Layout::Decoder, max_length).unwrap().prompt(row).unwrap();
        (shown(&tokenizer, &prompt.ids), prompt.full_length)
    };
    assert_eq!(prompt(9, &pair("ab:", "x")), ("<s>ab:".to_owned(), 4));
    assert_eq!(prompt(3, &pair("ab:", "x")), ("<s>b:".to_owned(), 4));
    let whole = encoded(&tokenizer, Layout::Decoder, 200, &conversation()).0;
    let (text, _) = prompt(200, &conversation());
    assert_eq!(text + "[B<|eot|>]", whole.replace("[A a<|eot|>]", "A a<|eot|>"));
    let asked = RowParts::Chat(vec![Message::new(Role::User, "a")]);
    assert!(prompt(200, &asked).0.ends_with("a<|eot|><|header|>assistant<|end|>\n\n"));
}

#[test]
fn what_is_missing_is_named() {
    let tokenizer = character_tokenizer(None, BOS);
    let encoder = RowEncoder::new(&tokenizer, Layout::Decoder, 9).unwrap();
    let error = encoder.encode(&conversation()).unwrap_err();
    assert!(error.to_string().contains("`chat_template.jinja`"), "{error}");
    assert_eq!(
        RowEncoder::new(&tokenizer, Layout::Decoder, 2).unwrap_err().to_string(),
        "`max_length` must be at least 3, the number of special tokens, found `2`"
    );
    let bert = crate::tokenizer::TrainConfig { vocab_size: 100, ..Default::default() };
    let bert = Tokenizer::train(["some words"], &bert).unwrap();
    let encoder = RowEncoder::new(&bert, Layout::Decoder, 9).unwrap();
    let error = encoder.encode(&pair("a", "b")).unwrap_err();
    assert!(error.to_string().contains("`eos_token`"), "{error}");
}

#[test]
fn rows_are_cached_with_their_marks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let message = |role: &str, content: &str| format!("{{\"role\": \"{role}\", \"content\": \"{content}\"}}");
    let row = |question: &str, answer: &str| {
        format!("{{\"messages\": [{}, {}]}}\n", message("user", question), message("assistant", answer))
    };
    std::fs::write(&path, row("one", "two") + &row("abc", "abcdefgh")).unwrap();
    let spec = LanguageSpec {
        data: DataSpec::new([path.display().to_string()], vec!["text".into()]),
        text_unit: TextUnit::Line,
        kind: RowKind::Chat { messages: "messages".into(), answers: Answers::Required },
    };
    let tokenizer = character_tokenizer(Some(CHATML), NOTHING);
    let encoder = RowEncoder::new(&tokenizer, Layout::Decoder, 30).unwrap();
    let scan = scan_language_rows(&spec, &mut |_| ()).unwrap();
    let key = CacheKey::new(&encoder.key(), 30, scan.scan.content);
    let encode = |rows: &[RowParts]| encoder.encode_batch(rows);
    let cache = folder.path().join("cache");
    let dataset = TokenizedDataset::from_language_rows(&cache, &key, &spec, &encode, &mut |_| ()).unwrap();
    let mut rows = Vec::new();
    read_language_rows(&spec, &mut |row| {
        rows.push(row.parts);
        Ok(())
    })
    .unwrap();
    for (number, expected) in encoder.encode_batch(&rows).unwrap().into_iter().enumerate() {
        assert_eq!(dataset.read(number).unwrap(), expected.ids);
        let (_, marks) = split(&expected.ids);
        assert!(marks.contains(&true) && marks.contains(&false));
    }
    assert_eq!((dataset.len(), dataset.cut_rows()), (2, 1));
    let never = |_: &[RowParts]| -> Result<Vec<Encoded>, String> { Err("tokenised twice".to_owned()) };
    TokenizedDataset::from_language_rows(&cache, &key, &spec, &never, &mut |_| ()).unwrap();

    let other = character_tokenizer(Some(HEADERS), NOTHING);
    let keys = [
        encoder.key(),
        RowEncoder::new(&tokenizer, Layout::EncoderDecoder, 30).unwrap().key(),
        RowEncoder::new(&other, Layout::Decoder, 30).unwrap().key(),
    ];
    assert!(keys[0] != keys[1] && keys[0] != keys[2]);
    let wrong = CacheKey::new(&keys[2], 30, ContentHash::of(&[], None));
    assert!(TokenizedDataset::from_language_rows(&cache, &wrong, &spec, &encode, &mut |_| ()).is_err());
}

#[test]
fn a_label_and_its_rationale_are_two_pairs() {
    let row = |rationale: Option<&str>| {
        RowParts::Rationale(Box::new(crate::RationaleRow {
            prompt: "ab".to_owned(),
            target: "c".to_owned(),
            rationale_prompt: Some("xy".to_owned()),
            rationale: rationale.map(str::to_owned),
            gold: "c".to_owned(),
            choices: Vec::new(),
        }))
    };
    let pair = |prompt: &str, target: &str| RowParts::Pair {
        prompt: prompt.to_owned(),
        targets: vec![target.to_owned()],
    };
    for (processor, layout) in
        [(NOTHING, Layout::Decoder), (BOS, Layout::Decoder), (EOS, Layout::EncoderDecoder)]
    {
        let tokenizer = character_tokenizer(None, processor);
        let encoder = RowEncoder::new(&tokenizer, layout, 6).unwrap();
        let [label, rationale] =
            [pair("ab", "c"), pair("xy", "zz")].map(|pair| encoder.encode(&pair).unwrap());
        let both = encoder.encode(&row(Some("zz"))).unwrap();
        assert_eq!(both.ids, [label.ids.as_slice(), &rationale.ids].concat());
        assert_eq!(RowEncoder::second_pair(&both.ids), Some(label.ids.len()));
        assert_eq!(both.full_length, label.full_length + rationale.full_length);
        let alone = encoder.encode(&row(None)).unwrap();
        assert_eq!((&alone.ids, RowEncoder::second_pair(&alone.ids)), (&label.ids, None));
        assert_eq!(encoder.prompt(&row(None)).unwrap().ids, encoder.prompt(&pair("ab", "c")).unwrap().ids);
        // What is too long is cut, and the two can still be told apart.
        let long = encoder.encode(&row(Some("zzzzzzzzzz"))).unwrap();
        assert_eq!(RowEncoder::second_pair(&long.ids), Some(label.ids.len()));
        assert!(long.ids.len() < long.full_length);
    }
}
