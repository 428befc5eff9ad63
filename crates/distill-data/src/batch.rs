//! Rows of token ids as one rectangle, padded to the longest of them.
use crate::error::DataError;
use crate::token_cache::TokenizedDataset;

/// Label of a row that the loss leaves out.
pub const IGNORED_LABEL: i64 = -100;

/// How rows are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Padding {
    /// Id that fills short rows.
    pub pad_token_id: u32,
    /// The width of a batch is rounded up to a multiple of this, in tokens; 8 suits tensor cores.
    pub multiple_of: usize,
    /// Widest batch in tokens; rounding up stops here.
    pub max_length: usize,
}

/// Rows side by side, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// `[batch, seq]`.
    pub input_ids: Vec<u32>,
    /// `[batch, seq]`, 1 = token, 0 = padding.
    pub attention_mask: Vec<u8>,
    /// `[batch, seq]`, 0 everywhere: there are no pairs of texts.
    pub token_type_ids: Vec<u32>,
    /// `[batch]`, −100 without labels.
    pub labels: Vec<i64>,
    /// `[batch]`, rows of the data set, by which the order can be restored.
    pub rows: Vec<usize>,
    /// Number of rows.
    pub batch_size: usize,
    /// Width in tokens, padding included.
    pub sequence_length: usize,
}

impl Batch {
    /// Number of tokens that are no padding.
    pub fn tokens(&self) -> usize {
        self.attention_mask.iter().map(|kept| usize::from(*kept)).sum()
    }
}

/// Reads `rows` of `dataset` into a batch.
///
/// # Errors
/// A row that is not there, cannot be read, or is longer than `padding.max_length`.
pub fn collate(dataset: &TokenizedDataset, rows: &[usize], padding: &Padding) -> Result<Batch, DataError> {
    let sequences: Vec<Vec<u32>> = rows.iter().map(|row| dataset.read(*row)).collect::<Result<_, _>>()?;
    let labels = rows.iter().map(|row| dataset.label(*row).map_or(IGNORED_LABEL, i64::from)).collect();
    pad(&sequences, labels, rows, padding)
}

/// Makes a batch of `sequences` without labels; row `i` of the batch is called `first_row + i`.
///
/// For prediction, which streams and keeps no token cache.
///
/// # Errors
/// A sequence longer than `padding.max_length`.
pub fn collate_sequences(
    sequences: &[Vec<u32>],
    first_row: usize,
    padding: &Padding,
) -> Result<Batch, DataError> {
    let rows: Vec<usize> = (first_row..first_row + sequences.len()).collect();
    pad(sequences, vec![IGNORED_LABEL; sequences.len()], &rows, padding)
}

fn pad(
    sequences: &[Vec<u32>],
    labels: Vec<i64>,
    rows: &[usize],
    padding: &Padding,
) -> Result<Batch, DataError> {
    let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
    if longest > padding.max_length {
        let too_long = rows.iter().zip(sequences).find(|(_, sequence)| sequence.len() > padding.max_length);
        let row = too_long.map_or(0, |(row, _)| *row);
        return Err(DataError::TooLong { row, length: longest, max_length: padding.max_length });
    }
    let width = longest.max(1).next_multiple_of(padding.multiple_of.max(1)).min(padding.max_length);
    let mut input_ids = Vec::with_capacity(sequences.len() * width);
    let mut attention_mask = Vec::with_capacity(sequences.len() * width);
    for (index, sequence) in sequences.iter().enumerate() {
        input_ids.extend(sequence);
        input_ids.resize((index + 1) * width, padding.pad_token_id);
        attention_mask.resize(index * width + sequence.len(), 1);
        attention_mask.resize((index + 1) * width, 0);
    }
    Ok(Batch {
        token_type_ids: vec![0; input_ids.len()],
        input_ids,
        attention_mask,
        labels,
        rows: rows.to_vec(),
        batch_size: sequences.len(),
        sequence_length: width,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::ContentHash;
    use crate::token_cache::CacheKey;
    use crate::tokenizer::Encoded;

    const PADDING: Padding = Padding { pad_token_id: 9, multiple_of: 8, max_length: 12 };

    #[test]
    fn short_rows_are_padded_to_a_multiple() {
        let batch = collate_sequences(&[vec![1, 2, 3], vec![4], vec![]], 5, &PADDING).unwrap();
        assert_eq!((batch.batch_size, batch.sequence_length), (3, 8));
        assert_eq!(batch.input_ids[..8], [1, 2, 3, 9, 9, 9, 9, 9]);
        assert_eq!(batch.input_ids[8..16], [4, 9, 9, 9, 9, 9, 9, 9]);
        assert_eq!(batch.attention_mask[..10], [1, 1, 1, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(batch.attention_mask.len(), 24);
        assert_eq!(batch.token_type_ids, [0; 24]);
        assert_eq!(batch.labels, [IGNORED_LABEL; 3]);
        assert_eq!(batch.rows, [5, 6, 7]);
        assert_eq!(batch.tokens(), 4);
    }

    #[test]
    fn rounding_up_stops_at_the_limit_and_nothing_is_cut() {
        let batch = collate_sequences(&[vec![1; 9]], 0, &PADDING).unwrap();
        assert_eq!(batch.sequence_length, 12);
        let error = collate_sequences(&[vec![1], vec![1; 13]], 3, &PADDING).unwrap_err();
        assert_eq!(error.to_string(), "row 4 has 13 tokens, `max_length` is 12");
    }

    #[test]
    fn rows_of_a_data_set_keep_label_and_number() {
        let dir = tempfile::tempdir().unwrap();
        let texts: Vec<String> = ["a", "bcd", "ef"].map(String::from).to_vec();
        let encode = |texts: &[String]| -> Result<_, String> {
            let row = |text: &String| Encoded {
                ids: text.bytes().map(u32::from).collect(),
                full_length: text.len(),
            };
            Ok(texts.iter().map(row).collect())
        };
        let labels = [2, 0, 1];
        let key = CacheKey::new("t", 12, ContentHash::of(&texts, Some(&labels)));
        let dataset =
            TokenizedDataset::from_texts(dir.path(), &key, &texts, Some(&labels), &encode, &mut |_| ())
                .unwrap();
        let batch = collate(&dataset, &[2, 0], &PADDING).unwrap();
        assert_eq!(batch.input_ids[..3], [101, 102, 9]);
        assert_eq!((batch.labels.as_slice(), batch.rows.as_slice()), (&[1, 2][..], &[2, 0][..]));
        assert!(collate(&dataset, &[3], &PADDING).is_err());
    }
}
