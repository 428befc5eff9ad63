//! Data: read, split, tokenise and batch.
//!
//! The way of a row: [`source`] finds its file, [`formats`] reads it, [`corpus`] joins its text
//! columns and maps its label by [`labels`], [`split`] puts it on one side, [`token_cache`] holds its
//! token ids, [`order`] puts it into a batch, and [`batch`] pads it.
//!
//! For generative models: [`language_source`] reads documents, prompts with targets, and
//! conversations; [`row_encoder`] makes tokens of them and marks what is learnt, conversations by
//! their [`chat_template`]; [`packing`] puts them into sequences, and [`language_batch`] those into
//! a batch.
pub mod batch;
pub mod chat_template;
pub mod content;
pub mod corpus;
pub mod error;
pub mod formats;
pub mod hub;
pub mod labels;
pub mod language_batch;
pub mod language_row;
pub mod language_source;
pub mod marks;
pub mod masking;
pub mod order;
pub mod packing;
pub mod rationale_row;
pub mod records;
pub mod row_encoder;
pub mod shuffle;
pub mod source;
pub mod split;
pub mod stats;
pub mod template;
pub mod token_cache;
mod token_writer;
pub mod tokenizer;

pub use batch::{Batch, IGNORED_LABEL, Padding, collate, collate_sequences};
pub use chat_template::{ChatTemplate, ChatTemplateError, GenerationPrompt};
pub use content::{ContentHash, FileHash};
pub use corpus::{
    Corpus, LabelSource, Scan, TextCorpus, TextRow, load_classification, load_texts, read_rows,
    scan_classification, scan_texts,
};
pub use error::{DataError, Place, Unit};
pub use formats::{FORMATS, Format, TextUnit};
pub use labels::{LabelMap, LabelStart, LabelStyle, SeenLabel};
pub use language_batch::{LanguageModelBatch, Seq2SeqBatch, collate_packed, collate_seq2seq};
pub use language_row::{LanguageRow, Message, Role, RowParts};
pub use language_source::{
    Answers, Field, LanguageScan, LanguageSpec, RowKind, read_language_rows, scan_language_rows,
};
pub use masking::Masking;
pub use order::{epoch_order, sequential_batches};
pub use packing::{Cut, Piece, pack, windows};
pub use rationale_row::{Agreement, RationaleFields, RationaleRow};
pub use records::{Record, read_records};
pub use row_encoder::{Layout, RowEncoder};
pub use source::{Column, DataSpec, fetch};
pub use split::{Split, seeded_subset, stratified_split};
pub use stats::{TokenStats, label_counts};
pub use template::Template;
pub use token_cache::{CacheKey, TokenizedDataset};
