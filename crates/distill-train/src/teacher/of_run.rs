//! The teachers of a prepared run: with their own tokens and caches, where they need them.

use crate::datasets::tokenize_by;
use crate::error::TrainError;
use crate::events::Observer;
use crate::examples::Examples;
use crate::fingerprint::weights_hash;
use crate::plan::teacher_is_cached;
use crate::prepare::Prepared;
use crate::rows::{Rows, TokenizedRows};
use crate::teacher::{Asked, Caching, Teacher, TeacherRows, teacher_cache};
use crate::written::cache_top_k;
use distill_ops::describe;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Makes the teachers of a run answer for some rows.
pub(crate) struct Teachers<'a> {
    pub(crate) prepared: &'a Prepared,
    pub(crate) cache: &'a Path,
    pub(crate) interrupt: &'a AtomicBool,
}

impl Teachers<'_> {
    /// Those of `examples`, the student's tokens `rows` of `parts`; `None` without teachers, or where no loss asks them.
    pub(crate) fn of(
        &self,
        parts: &[&Rows],
        rows: &TokenizedRows,
        examples: &Examples,
        observer: &mut dyn Observer,
    ) -> Result<Option<Teacher>, TrainError> {
        let prepared = self.prepared;
        if prepared.teachers.is_empty() || !prepared.losses.needs().asks_teacher() {
            return Ok(None);
        }
        let (recipe, start) = (&prepared.recipe, prepared.loaded.model.as_ref());
        let asked = Asked {
            needs: prepared.losses.needs(),
            precision: prepared.precision,
            batch_size: recipe.train.eval_batch_size.unwrap_or(recipe.train.batch_size),
            max_length: recipe.data.max_length,
            pad_token_id: prepared.pad_token_id(),
            device: prepared.device.clone().autodiff(),
        };
        let other_columns: Vec<Rows> = parts.iter().filter_map(|rows| prepared.for_teacher(rows)).collect();
        let read: Vec<&Rows> = other_columns.iter().collect();
        let parts = if read.is_empty() { parts } else { &read };
        let mut members = Vec::with_capacity(prepared.teachers.len());
        for teacher in &prepared.teachers {
            let own = match &teacher.own_tokenizer {
                None if read.is_empty() => None,
                own => {
                    let tokenizer = own.as_deref().unwrap_or(&prepared.tokenizer);
                    let max_length = teacher.max_length(recipe.data.max_length);
                    Some(tokenize_by(tokenizer, parts, max_length, self.cache, "the teacher's", observer)?)
                }
            };
            members.push((teacher, own));
        }
        if !teacher_is_cached(prepared) && cache_top_k(recipe).is_none() {
            return Teacher::live(members, asked, start).map(Some);
        }
        let table = recipe.distill.as_ref().map(|distill| &distill.table);
        let folder = recipe.data.cache_dir.clone().unwrap_or_else(|| teacher_cache(&recipe.output_dir));
        let own_start = recipe.teacher.as_ref().is_some_and(|teacher| teacher.self_distillation);
        let caching = Caching {
            folder: &folder,
            dtype: table.map(|table| table.cache_dtype).unwrap_or_default(),
            computing: format!("{} {}", describe(&prepared.device), prepared.precision),
            tokenizer: prepared.tokenizer.hash(),
            start: if own_start { weights_hash(prepared) } else { String::new() },
            interrupt: self.interrupt,
        };
        if let (Some(k), [teacher]) = (cache_top_k(recipe), prepared.teachers.as_slice()) {
            let k_at = (k, prepared.losses.temperatures());
            return Teacher::likeliest(teacher, examples, k_at, asked, start, &caching, observer).map(Some);
        }
        let members = members.into_iter().map(|(teacher, own)| TeacherRows {
            prepared: teacher,
            rows: own.unwrap_or_else(|| rows.clone()),
            parts,
        });
        Teacher::cached(members.collect(), asked, start, &caching, observer).map(Some)
    }
}
