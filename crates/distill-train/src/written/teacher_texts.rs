//! Training rows that the teacher writes, on disk: written once, part by part, and completed after a kill.

use super::prompts::Beginning;
use super::writing::{Writing, row_of};
use crate::checkpoint::{hex, write_file};
use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::fingerprint::weights_hash;
use crate::prepare::Prepared;
use crate::rows::TokenizedRows;
use crate::teacher::{PreparedTeacher, teacher_cache};
use distill_data::tokenizer::Encoded;
use distill_data::{CacheKey, ContentHash, TokenizedDataset};
use distill_models::Model;
use distill_recipe::WrittenTexts;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Prompts of one part: what a kill can cost.
const PROMPTS_A_PART: usize = 64;
/// What is in the files; another number makes all of them anew.
const VERSION: u32 = 1;

/// The teacher of a run as the writer of its training rows.
pub(crate) struct TeacherTexts<'a> {
    pub(crate) prepared: &'a Prepared,
    /// Where the tokens of the run are kept.
    pub(crate) cache: &'a Path,
    pub(crate) interrupt: &'a AtomicBool,
}

impl TeacherTexts<'_> {
    /// What is trained on: `rows`, or where the recipe says so what the teacher writes after their beginnings.
    ///
    /// # Errors
    /// [`TrainError::Interrupted`]; a teacher, tokens or parts that cannot be read or written.
    pub(crate) fn in_place_of(
        &self,
        rows: TokenizedRows,
        observer: &mut dyn Observer,
    ) -> Result<TokenizedRows, TrainError> {
        let prepared = self.prepared;
        let Some(texts) = super::teacher_texts(&prepared.recipe) else { return Ok(rows) };
        let Some(teacher) = prepared.teachers.first() else { return Ok(rows) };
        let max_length = prepared.recipe.data.max_length;
        let beginning = Beginning::of_run(prepared, texts.prompt_tokens);
        let prompts = beginning.of_rows(&rows, max_length)?;
        let parts = Parts::new(prepared, teacher, &texts, &prompts);
        let written = self.written(teacher, &texts, &prompts, &parts, observer)?;
        let rows = prompts.iter().zip(&written).filter(|(_, written)| !written.is_empty());
        let rows: Vec<Vec<u32>> = rows.map(|(prompt, written)| row_of(prompt, written)).collect();
        if rows.is_empty() {
            return Err(TrainError::Unusable {
                message: "the teacher wrote nothing: every prompt is as long as `max_length`".to_owned(),
                help: "raise `max_length`, or keep less of each document by `prompt_tokens`".to_owned(),
            });
        }
        let dataset = Arc::new(dataset_of(&rows, self.cache)?);
        Ok(TokenizedRows::of_dataset(&dataset, (0..rows.len()).collect()))
    }

    /// What the teacher writes after each prompt, from the parts that are there, and written where they are not.
    fn written(
        &self,
        teacher: &PreparedTeacher,
        texts: &WrittenTexts,
        prompts: &[Vec<u32>],
        parts: &Parts,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Vec<u32>>, TrainError> {
        let prepared = self.prepared;
        let writing = Writing::new(prepared, &teacher.config, texts, 0.0);
        let what = format!("the teacher `{}` writes texts", teacher.name);
        let total = Some(prompts.len() as u64);
        let (mut model, mut all): (Option<Box<dyn Model>>, _) = (None, Vec::with_capacity(prompts.len()));
        for (number, of_part) in prompts.chunks(PROMPTS_A_PART).enumerate() {
            if let Some(known) = parts.read(number, of_part.len())? {
                all.extend(known);
                continue;
            }
            let model = match &mut model {
                Some(model) => model,
                none => {
                    let message = format!("loading the teacher `{}`", teacher.name);
                    observer.event(&Event::Stage { message });
                    none.insert(teacher.load(true, prepared.loaded.model.as_ref(), &prepared.device)?)
                }
            };
            let (first, seed) = (number * PROMPTS_A_PART, writing.settings.seed);
            let mut done = all.len();
            let mut told = |more: usize| {
                done += more;
                observer.event(&Event::Progress { what: what.clone(), done: done as u64, total });
            };
            let written = writing.write(model.as_ref(), of_part, first, seed, self.interrupt, &mut told)?;
            parts.write(number, &written)?;
            all.extend(written);
        }
        Ok(all)
    }
}

/// The files of one key.
struct Parts(PathBuf);

impl Parts {
    /// Those of these prompts, this teacher and these settings. Device, precision and batch size change nothing but
    /// roundings, and what another run wrote is as good.
    fn new(
        prepared: &Prepared,
        teacher: &PreparedTeacher,
        texts: &WrittenTexts,
        prompts: &[Vec<u32>],
    ) -> Self {
        let recipe = &prepared.recipe;
        let folder = recipe.data.cache_dir.clone().unwrap_or_else(|| teacher_cache(&recipe.output_dir));
        let own_start = teacher.hash.is_empty();
        let teacher = if own_start { weights_hash(prepared) } else { teacher.hash.clone() };
        let drawn = texts.temperature.unwrap_or(0.0);
        let mut hasher = Sha256::new();
        hasher.update(format!("{VERSION} {PROMPTS_A_PART} {teacher} {}\n", prepared.tokenizer.hash()));
        hasher.update(format!("{:x} {:?} ", drawn.to_bits(), (texts.max_new_tokens, texts.num_beams)));
        hasher.update(format!("{} {}\n", recipe.data.max_length, if drawn > 0.0 { recipe.seed } else { 0 }));
        for prompt in prompts {
            hasher.update((prompt.len() as u64).to_le_bytes());
            hasher.update(prompt.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
        }
        Self(folder.join(format!("texts-{}", &hex(&hasher.finalize())[..32])))
    }

    fn path(&self, number: usize) -> PathBuf {
        self.0.join(format!("{number:08}.json"))
    }

    /// A part, if it is there and whole.
    fn read(&self, number: usize, prompts: usize) -> Result<Option<Vec<Vec<u32>>>, TrainError> {
        let path = self.path(number);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TrainError::io(&path)(error)),
        };
        let written: Option<Vec<Vec<u32>>> = serde_json::from_slice(&bytes).ok();
        Ok(written.filter(|written| written.len() == prompts))
    }

    /// Writes a part, whole or not at all.
    fn write(&self, number: usize, written: &[Vec<u32>]) -> Result<(), TrainError> {
        fs::create_dir_all(&self.0).map_err(TrainError::io(&self.0))?;
        let path = self.path(number);
        let bytes = serde_json::to_vec(written).map_err(|error| TrainError::io(&path)(error.into()))?;
        write_file(&path, &bytes)
    }
}

/// Rows of tokens with their marks as a data set.
fn dataset_of(rows: &[Vec<u32>], cache: &Path) -> Result<TokenizedDataset, TrainError> {
    // Numbers for a tokenizer that reads numbers.
    let texts: Vec<String> = rows
        .iter()
        .map(|row| row.iter().map(|token| format!("{token:x}")).collect::<Vec<_>>().join(" "))
        .collect();
    let encode = |texts: &[String]| -> Result<Vec<Encoded>, std::num::ParseIntError> {
        let row = |text: &String| {
            let ids = text.split(' ').map(|number| u32::from_str_radix(number, 16));
            let ids: Vec<u32> = ids.collect::<Result<_, _>>()?;
            Ok(Encoded { full_length: ids.len(), ids })
        };
        texts.iter().map(row).collect()
    };
    let key = CacheKey::new("written by a teacher", usize::MAX, ContentHash::of(&texts, None));
    Ok(TokenizedDataset::from_texts(cache, &key, &texts, None, &encode, &mut |_| {})?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use distill_data::marks::learnt;

    #[test]
    fn rows_come_back_with_their_marks() {
        let folder = tempfile::tempdir().expect("a folder");
        let rows = [row_of(&[1, 2], &[3, 49_151]), row_of(&[7], &[0])];
        let dataset = dataset_of(&rows, folder.path()).expect("writes");
        assert_eq!(dataset.read(0).expect("reads"), [1, 2, learnt(3), learnt(49_151)]);
        assert_eq!(dataset.read(1).expect("reads"), [7, learnt(0)]);
        assert_eq!(dataset.lengths(), [4, 2]);
    }

    #[test]
    fn a_torn_part_is_written_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let parts = Parts(folder.path().join("texts"));
        assert!(parts.read(0, 2).expect("reads").is_none());
        let written = vec![vec![1, 2], Vec::new()];
        parts.write(0, &written).expect("writes");
        assert_eq!(parts.read(0, 2).expect("reads"), Some(written));
        assert!(parts.read(0, 3).expect("reads").is_none(), "of other prompts");
        fs::write(parts.path(0), b"[[1, 2]").expect("tears");
        assert!(parts.read(0, 2).expect("reads").is_none());
    }
}
