//! Texts taken apart for the metrics that compare them.

pub mod longest_common_subsequence;
pub mod ngrams;
pub mod porter_stemmer;
pub mod rouge_tokens;
pub mod tokenizer_13a;
pub mod vocabulary;
pub mod whitespace;
