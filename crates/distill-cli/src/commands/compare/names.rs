//! Short names for models: as much of the end of a path as tells it from the others.

use distill_train::compare::Comparison;

/// The name of each model.
pub fn of(compared: &Comparison) -> Vec<String> {
    let models: Vec<&str> = compared.models.iter().map(|model| model.model.as_str()).collect();
    models.iter().map(|model| short(model, &models)).collect()
}

fn short(model: &str, models: &[&str]) -> String {
    let parts = parts(model);
    let differs = |count: usize| {
        let own = tail(&parts, count);
        // The same model twice has the same name twice.
        !own.starts_with(&["."])
            && models.iter().all(|&other| other == model || tail(&self::parts(other), count) != own)
    };
    match (1..parts.len()).find(|&count| differs(count)) {
        Some(count) => tail(&parts, count).join("/"),
        None => model.to_owned(),
    }
}

fn parts(model: &str) -> Vec<&str> {
    model.split(['/', '\\']).filter(|part| !part.is_empty()).collect()
}

fn tail<'a, 'b>(parts: &'b [&'a str], count: usize) -> &'b [&'a str] {
    &parts[parts.len().saturating_sub(count)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(models: &[&str]) -> Vec<String> {
        models.iter().map(|model| short(model, models)).collect()
    }

    #[test]
    fn the_end_of_a_path_is_its_name() {
        assert_eq!(names(&["checkpoints/teacher", "out/student/"]), ["teacher", "student"]);
        assert_eq!(names(&["teacher", "org/model"]), ["teacher", "model"]);
    }

    #[test]
    fn equal_ends_get_more_of_their_paths() {
        assert_eq!(
            names(&["a/checkpoints/step-10", "b/checkpoints/step-10", "b/checkpoints/step-20"]),
            ["a/checkpoints/step-10", "b/checkpoints/step-10", "step-20"]
        );
        assert_eq!(names(&["model", "org/model"]), ["model", "org/model"]);
    }

    #[test]
    fn a_model_may_be_there_twice() {
        assert_eq!(names(&["out/a", "out/a", "out/b"]), ["a", "a", "b"]);
        assert_eq!(names(&[".", ".."]), [".", ".."]);
    }
}
