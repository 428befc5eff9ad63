//! Batches of training or validation rows with what is to be predicted of them.

use crate::error::TrainError;
use crate::objectives::{StepCounts, Targets};
use crate::rows::{TokenizedRows, padding};
use burn::tensor::Device;
use distill_data::{
    Batch, IGNORED_LABEL, LanguageModelBatch, Masking, Piece, Seq2SeqBatch, collate_packed, collate_seq2seq,
};
use distill_models::ModelInput;
use std::sync::Arc;

/// Rows, and how their labels are found.
#[derive(Clone, Debug)]
pub struct Examples {
    /// Their tokens.
    pub rows: TokenizedRows,
    /// What is to be predicted.
    pub kind: ExampleKind,
    /// Id of the padding token.
    pub pad_token_id: u32,
    /// Longest sequence, in tokens.
    pub max_length: usize,
    /// Whether the sequences of a batch stand side by side in one row, without padding, where a model reads from left to
    /// right: what is learnt is the same, and nothing is computed of padding.
    pub side_by_side: bool,
}

/// What is to be predicted of rows.
#[derive(Clone, Debug)]
pub enum ExampleKind {
    /// The labels of texts.
    Labels,
    /// Tokens that are hidden.
    Hidden(Masking),
    /// The next token, of sequences that are made of pieces of rows.
    Next(Arc<Sequences>),
    /// The target of each prompt, by an encoder-decoder that begins with this token.
    Target {
        /// Begins every target.
        decoder_start_token_id: u32,
        /// The rows, each a prompt and a target, or two of them.
        sequences: Arc<Sequences>,
    },
}

/// Sequences made of pieces of rows.
#[derive(Clone, Debug)]
pub struct Sequences {
    pieces: Vec<Vec<Piece>>,
    lengths: Vec<u32>,
    explained: bool,
}

impl Sequences {
    /// From the pieces of each.
    pub fn new(pieces: Vec<Vec<Piece>>) -> Self {
        let length = |pieces: &Vec<Piece>| pieces.iter().map(|piece| piece.len as u32).sum();
        Self { lengths: pieces.iter().map(length).collect(), pieces, explained: false }
    }

    /// Where the second piece of a row, if it has one, is its rationale.
    #[must_use]
    pub fn explained(self) -> Self {
        Self { explained: true, ..self }
    }

    /// Whether this piece is a rationale.
    fn is_rationale(&self, piece: &Piece) -> bool {
        self.explained && piece.start > 0
    }
}

/// A batch with a label for each row of the logits.
#[derive(Clone, Debug)]
pub struct LabelledBatch {
    /// Tokens, those that are hidden replaced; of an encoder-decoder those of the prompts.
    pub batch: Batch,
    /// `[batch]`, or `[batch · seq]` for a language model, of an encoder-decoder of its target; −100 = ignored.
    pub labels: Vec<i64>,
    /// Whether each of them is of a rationale; empty where there are none.
    pub rationale: Vec<bool>,
    /// What losses are divided by.
    pub counts: StepCounts,
    /// How a model of the next token reads the batch.
    reading: Reading,
}

/// How a model reads a batch.
#[derive(Clone, Debug)]
enum Reading {
    /// As it is, padding hidden.
    Plain,
    /// From left to right: padding at the end is never seen.
    Causal,
    /// The same, with several texts in a row.
    Packed { position_ids: Vec<u32>, segment_ids: Vec<u32> },
    /// By an encoder, and by a decoder that reads this.
    Decoder { input_ids: Vec<u32>, length: usize },
}

impl Examples {
    /// How many sequences there are to learn from or to measure.
    pub fn len(&self) -> usize {
        self.lengths().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of each.
    pub fn lengths(&self) -> &[u32] {
        match &self.kind {
            ExampleKind::Next(sequences) | ExampleKind::Target { sequences, .. } => &sequences.lengths,
            _ => self.rows.lengths(),
        }
    }

    /// Those at these positions as they are seen in `pass`: an epoch, or a number that stays the same.
    ///
    /// # Errors
    /// [`TrainError::Data`] if the token cache cannot be read.
    pub fn batch(&self, positions: &[usize], pass: u64) -> Result<LabelledBatch, TrainError> {
        match &self.kind {
            ExampleKind::Labels => {
                let batch = self.rows.batch(positions, self.pad_token_id, self.max_length)?;
                let labels = batch.labels.clone();
                Ok(LabelledBatch::new(batch, labels, Vec::new(), Reading::Plain))
            }
            ExampleKind::Hidden(masking) => self.hidden(masking, positions, pass),
            ExampleKind::Next(sequences) => {
                self.next_read(sequences, positions, &mut |piece| self.rows.read_piece(piece))
            }
            ExampleKind::Target { decoder_start_token_id, sequences } => {
                let rows = positions.iter().filter_map(|&at| sequences.pieces.get(at)).flatten();
                // All labels, then all rationales.
                let (rationales, labels): (Vec<Piece>, Vec<Piece>) =
                    rows.partition(|piece| sequences.is_rationale(piece));
                let pieces = [labels, rationales].concat();
                self.target(&pieces, *decoder_start_token_id, &mut |piece| self.rows.read_piece(piece))
            }
        }
    }

    /// The texts of the examples at these positions, with their marks: several of one where it is packed.
    ///
    /// # Errors
    /// [`TrainError::Data`] if the token cache cannot be read.
    pub(crate) fn texts(&self, positions: &[usize]) -> Result<Vec<Vec<u32>>, TrainError> {
        match &self.kind {
            ExampleKind::Next(sequences) | ExampleKind::Target { sequences, .. } => {
                let pieces = positions.iter().filter_map(|&at| sequences.pieces.get(at)).flatten();
                pieces.map(|&piece| self.rows.read_piece(piece)).collect()
            }
            _ => positions.iter().map(|&position| self.rows.read(position)).collect(),
        }
    }

    /// A batch of other rows of tokens with their marks, each a sequence, as a model that writes texts reads its own.
    ///
    /// # Errors
    /// [`TrainError::Data`] if a row is longer than the longest sequence.
    pub(crate) fn batch_of(&self, rows: &[Vec<u32>]) -> Result<LabelledBatch, TrainError> {
        let numbers: Vec<usize> = (0..rows.len()).collect();
        let whole: Vec<Piece> =
            rows.iter().enumerate().map(|(row, tokens)| Piece::whole(row, tokens.len())).collect();
        let read = &mut |piece: Piece| Ok(rows[piece.row].clone());
        if let ExampleKind::Target { decoder_start_token_id, .. } = &self.kind {
            return self.target(&whole, *decoder_start_token_id, read);
        }
        let pieces: Vec<&[Piece]> = whole.chunks(1).collect();
        self.next_of(&pieces, numbers, self.max_length, read)
    }

    /// For each place of a batch of these sequences whether it is of a rationale, `false` for padding; nothing where there
    /// are none. `len` is how many places a piece takes.
    fn flags<'p>(
        &self,
        sequences: impl Iterator<Item = &'p [Piece]>,
        width: usize,
        len: &dyn Fn(&Piece) -> usize,
    ) -> Vec<bool> {
        let of = match &self.kind {
            ExampleKind::Next(of) | ExampleKind::Target { sequences: of, .. } if of.explained => of,
            _ => return Vec::new(),
        };
        let mut flags = Vec::new();
        for (row, pieces) in (1..).zip(sequences) {
            for piece in pieces {
                flags.resize(flags.len() + len(piece), of.is_rationale(piece));
            }
            flags.resize(row * width, false);
        }
        flags
    }

    fn hidden(&self, masking: &Masking, positions: &[usize], pass: u64) -> Result<LabelledBatch, TrainError> {
        let mut batch = self.rows.batch(positions, self.pad_token_id, self.max_length)?;
        let mut labels = vec![IGNORED_LABEL; batch.input_ids.len()];
        let width = batch.sequence_length.max(1);
        let rows = batch.input_ids.chunks_mut(width).zip(labels.chunks_mut(width));
        for ((ids, labels), &position) in rows.zip(positions) {
            let length = self.rows.lengths().get(position).map_or(0, |&length| length as usize);
            let chosen = masking.mask(&mut ids[..length], position as u64, pass);
            labels[..length].copy_from_slice(&chosen);
        }
        Ok(LabelledBatch::new(batch, labels, Vec::new(), Reading::Plain))
    }

    fn next_read(
        &self,
        sequences: &Sequences,
        positions: &[usize],
        read: &mut dyn FnMut(Piece) -> Result<Vec<u32>, TrainError>,
    ) -> Result<LabelledBatch, TrainError> {
        let pieces: Vec<&[Piece]> =
            positions.iter().filter_map(|&at| sequences.pieces.get(at).map(Vec::as_slice)).collect();
        let all = pieces.concat();
        let tokens: usize = all.iter().map(|piece| piece.len).sum();
        let longest = pieces.iter().map(|of| of.iter().map(|piece| piece.len).sum()).max().unwrap_or(0);
        if !self.side_by_side || longest * pieces.len() == tokens {
            return self.next_of(&pieces, positions.to_vec(), self.max_length, read);
        }
        let mut batch = self.next_of(&[&all], positions.to_vec(), tokens, read)?;
        batch.counts.examples = pieces.len() as u64;
        Ok(batch)
    }

    /// Sequences of these pieces, which `read` gives the tokens of.
    fn next_of(
        &self,
        pieces: &[&[Piece]],
        rows: Vec<usize>,
        max_length: usize,
        read: &mut dyn FnMut(Piece) -> Result<Vec<u32>, TrainError>,
    ) -> Result<LabelledBatch, TrainError> {
        let padding = padding(self.pad_token_id, max_length);
        let batch = collate_packed(pieces, read, &padding)?;
        let packed = batch.is_packed();
        let LanguageModelBatch {
            input_ids,
            attention_mask,
            labels,
            position_ids,
            segment_ids,
            batch_size,
            sequence_length,
            ..
        } = batch;
        let rationale = self.flags(pieces.iter().copied(), sequence_length, &|piece| piece.len);
        // Each token stands where it is predicted: one place to the left, within its piece.
        let mut shifted = Vec::with_capacity(labels.len());
        for row in labels.chunks(sequence_length.max(1)) {
            shifted.extend(row.iter().skip(1).chain([&IGNORED_LABEL]));
        }
        let batch = Batch {
            token_type_ids: vec![0; input_ids.len()],
            input_ids,
            attention_mask,
            labels: vec![IGNORED_LABEL; batch_size],
            rows,
            batch_size,
            sequence_length,
        };
        let reading = if packed { Reading::Packed { position_ids, segment_ids } } else { Reading::Causal };
        Ok(LabelledBatch::new(batch, shifted, rationale, reading))
    }

    /// Prompts and targets, a pair a piece.
    fn target(
        &self,
        pieces: &[Piece],
        start: u32,
        read: &mut dyn FnMut(Piece) -> Result<Vec<u32>, TrainError>,
    ) -> Result<LabelledBatch, TrainError> {
        let padding = padding(self.pad_token_id, self.max_length);
        let numbers: Vec<usize> = (0..pieces.len()).collect();
        let batch = collate_seq2seq(&numbers, &mut |number| read(pieces[number]), &padding)?;
        let Seq2SeqBatch {
            input_ids, attention_mask, labels, batch_size, source_length, target_length, ..
        } = batch;
        let mut decoder = Vec::with_capacity(labels.len());
        for row in labels.chunks(target_length.max(1)) {
            let before = row.iter().take(target_length.saturating_sub(1));
            decoder.push(start);
            decoder.extend(before.map(|&id| u32::try_from(id).unwrap_or(self.pad_token_id)));
        }
        let batch = Batch {
            token_type_ids: vec![0; input_ids.len()],
            input_ids,
            attention_mask,
            labels: vec![IGNORED_LABEL; batch_size],
            rows: pieces.iter().map(|piece| piece.row).collect(),
            batch_size,
            sequence_length: source_length,
        };
        let reading = Reading::Decoder { input_ids: decoder, length: target_length };
        let rationale = self.flags(pieces.chunks(1), target_length, &|_| target_length);
        Ok(LabelledBatch::new(batch, labels, rationale, reading))
    }
}

impl LabelledBatch {
    fn new(batch: Batch, labels: Vec<i64>, rationale: Vec<bool>, reading: Reading) -> Self {
        let counts = StepCounts::of_batch(&batch, &labels, &rationale);
        Self { batch, labels, rationale, counts, reading }
    }

    /// The tokens on a device.
    pub fn input(&self, device: &Device) -> ModelInput {
        let shape = [self.batch.batch_size, self.batch.sequence_length];
        let ids = &self.batch.input_ids;
        let types = Some(self.batch.token_type_ids.as_slice());
        let unmasked = || ModelInput::new(ids, &vec![1; ids.len()], None, shape, device);
        let masked = || ModelInput::new(ids, &self.batch.attention_mask, types, shape, device);
        match &self.reading {
            Reading::Plain => masked(),
            Reading::Causal => unmasked(),
            Reading::Packed { position_ids, segment_ids } => {
                unmasked().with_positions(position_ids.clone()).with_segments(segment_ids)
            }
            Reading::Decoder { input_ids, length } => {
                masked().with_decoder(input_ids, [self.batch.batch_size, *length])
            }
        }
    }

    /// Places within their texts and numbers of texts, where several share a sequence.
    pub(crate) fn packed(&self) -> Option<(&[u32], &[u32])> {
        match &self.reading {
            Reading::Packed { position_ids, segment_ids } => Some((position_ids, segment_ids)),
            _ => None,
        }
    }

    /// What losses compare with.
    pub fn targets<'a>(&'a self, label_smoothing: f64, device: &'a Device) -> Targets<'a> {
        Targets {
            labels: &self.labels,
            rationale: &self.rationale,
            attention_mask: &self.batch.attention_mask,
            shape: [self.batch.batch_size, self.batch.sequence_length],
            label_smoothing,
            device,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objectives::{Level, Losses, Pair, usual_losses};
    use crate::pass::{Pass, PassInput, PassSettings, pass};
    use distill_data::marks::learnt;
    use distill_models::{Activations, HeadPolicy, LoadRequest, Loaded, Task, find, from_scratch};
    use distill_ops::{Dropout, Precision};

    fn model(architecture: &str) -> Loaded {
        let table = serde_json::json!({
            "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
            "max_position_embeddings": 64,
        });
        let request = LoadRequest {
            task: Task::CausalLm,
            seed: 3,
            device: Device::flex().autodiff(),
            dropout: Some(0.0),
            head: HeadPolicy::Reinitialise,
            adapter: None,
        };
        from_scratch(find(architecture).unwrap(), &table, 40, 0, request).unwrap()
    }

    /// Rows of all lengths, of which every third token is not learnt.
    fn rows() -> Vec<Vec<u32>> {
        let token = |row: u32, place: u32| (row * 7 + place * 3) % 39 + 1;
        let row = |(row, len)| {
            let tokens = (0..len).map(move |place| (place, token(row, place)));
            tokens.map(|(place, id)| if place % 3 == 0 { id } else { learnt(id) }).collect()
        };
        (0..).zip([5, 17, 1, 30, 9, 9]).map(row).collect()
    }

    fn examples(side_by_side: bool) -> Examples {
        let rows = rows().into_iter().enumerate();
        let pieces = rows.map(|(row, tokens)| vec![Piece::whole(row, tokens.len())]);
        let kind = ExampleKind::Next(Arc::new(Sequences::new(pieces.collect())));
        Examples { rows: TokenizedRows::default(), kind, pad_token_id: 0, max_length: 32, side_by_side }
    }

    fn batch(examples: &Examples) -> LabelledBatch {
        let ExampleKind::Next(sequences) = &examples.kind else { unreachable!("as it was made") };
        let read = &mut |piece: Piece| Ok(rows()[piece.row].clone());
        examples.next_read(sequences, &[3, 0, 2, 1, 5], read).unwrap()
    }

    #[test]
    fn sequences_side_by_side_teach_what_padded_ones_do() {
        let [padded, flat] = [false, true].map(|side_by_side| batch(&examples(side_by_side)));
        assert_eq!([padded.batch.batch_size, flat.batch.batch_size], [5, 1]);
        assert_eq!(flat.batch.sequence_length, 62, "no padding");
        for counts in [&padded.counts, &flat.counts] {
            assert_eq!([counts.examples, counts.tokens, counts.labels], [5, 62, 40]);
        }
        for architecture in ["llama", "gpt2"] {
            let loaded = model(architecture);
            let device = loaded.model.device();
            let run = |batch: &LabelledBatch| {
                let pair = Pair {
                    student: loaded.config.base.as_ref(),
                    teacher: None,
                    teachers: 0,
                    same_tokens: true,
                    level: Level::NextToken,
                };
                let losses = Losses::build(&usual_losses(Level::NextToken), &pair).unwrap();
                let settings = PassSettings {
                    losses: &losses,
                    precision: Precision::F32,
                    activations: Activations::Keep,
                };
                let targets = batch.targets(0.0, &device);
                let on =
                    PassInput { targets: &targets, teacher: None, projection: None, counts: &batch.counts };
                pass(&settings, loaded.model.as_ref(), &batch.input(&device), on, &mut Dropout::off())
            };
            let [padded, flat]: [Pass; 2] = [&padded, &flat].map(run);
            assert!((padded.loss - flat.loss).abs() < 1e-5 * padded.loss, "{} {}", padded.loss, flat.loss);
            assert_eq!(padded.gradients.len(), flat.gradients.len());
            for ((name, padded), (same, flat)) in padded.gradients.iter().zip(&flat.gradients) {
                assert_eq!(name, same);
                let values = |x: &burn::tensor::Tensor<1>| x.to_data().iter::<f32>().collect::<Vec<_>>();
                let (padded, flat) = (values(padded), values(flat));
                let largest = padded.iter().map(|x| x.abs()).fold(0.0, f32::max);
                let furthest = padded.iter().zip(&flat).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(
                    furthest <= 1e-5 * largest.max(1e-3),
                    "{architecture} {name}: {furthest} of {largest}"
                );
            }
        }
    }

    #[test]
    fn sequences_of_one_length_stay_rows() {
        let pieces = (0..3).map(|row| vec![Piece::whole(row, 8)]).collect();
        let kind = ExampleKind::Next(Arc::new(Sequences::new(pieces)));
        let examples = Examples { kind, ..examples(true) };
        let ExampleKind::Next(sequences) = &examples.kind else { unreachable!("as it was made") };
        let batch = examples.next_read(sequences, &[0, 1, 2], &mut |_| Ok(vec![learnt(4); 8])).unwrap();
        assert_eq!([batch.batch.batch_size, batch.batch.sequence_length], [3, 8]);
    }
}
