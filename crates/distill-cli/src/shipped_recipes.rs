//! The recipes that are part of the binary.

use crate::failure::Failure;

/// A recipe in the binary.
#[derive(Debug)]
pub struct ShippedRecipe {
    /// Name, that of its file without `.toml`.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
    /// The data set of this program that it reads, below `datasets/`.
    pub dataset: Option<&'static str>,
}

/// Every recipe, the first to try first.
pub const ALL: &[ShippedRecipe] = &[
    ShippedRecipe {
        name: "quickstart",
        text: include_str!("../../../recipes/quickstart.toml"),
        dataset: Some("support_tickets"),
    },
    ShippedRecipe {
        name: "quickstart_distil",
        text: include_str!("../../../recipes/quickstart_distil.toml"),
        dataset: Some("support_tickets"),
    },
    ShippedRecipe {
        name: "language_model_quickstart",
        text: include_str!("../../../recipes/language_model_quickstart.toml"),
        dataset: Some("village_stories"),
    },
    ShippedRecipe {
        name: "step_by_step_quickstart",
        text: include_str!("../../../recipes/step_by_step_quickstart.toml"),
        dataset: Some("word_problems"),
    },
    ShippedRecipe {
        name: "step_by_step",
        text: include_str!("../../../recipes/step_by_step.toml"),
        dataset: None,
    },
    ShippedRecipe { name: "ag_news", text: include_str!("../../../recipes/ag_news.toml"), dataset: None },
    ShippedRecipe {
        name: "ag_news_csv",
        text: include_str!("../../../recipes/ag_news_csv.toml"),
        dataset: None,
    },
    ShippedRecipe {
        name: "distil_soft_labels",
        text: include_str!("../../../recipes/distil_soft_labels.toml"),
        dataset: None,
    },
    ShippedRecipe {
        name: "distilbert",
        text: include_str!("../../../recipes/distilbert.toml"),
        dataset: None,
    },
    ShippedRecipe { name: "tinybert", text: include_str!("../../../recipes/tinybert.toml"), dataset: None },
    ShippedRecipe { name: "minilm", text: include_str!("../../../recipes/minilm.toml"), dataset: None },
    ShippedRecipe {
        name: "domain_lm_lora",
        text: include_str!("../../../recipes/domain_lm_lora.toml"),
        dataset: None,
    },
    ShippedRecipe {
        name: "distil_language_model",
        text: include_str!("../../../recipes/distil_language_model.toml"),
        dataset: None,
    },
    ShippedRecipe { name: "chat_lora", text: include_str!("../../../recipes/chat_lora.toml"), dataset: None },
    ShippedRecipe {
        name: "summarize_lora",
        text: include_str!("../../../recipes/summarize_lora.toml"),
        dataset: None,
    },
    ShippedRecipe {
        name: "t5_summarize",
        text: include_str!("../../../recipes/t5_summarize.toml"),
        dataset: None,
    },
    ShippedRecipe {
        name: "domain_masked_lm",
        text: include_str!("../../../recipes/domain_masked_lm.toml"),
        dataset: None,
    },
];

impl ShippedRecipe {
    /// What the recipe is for: the first paragraph of the comment that opens its file.
    pub fn description(&self) -> String {
        let comments = self
            .text
            .lines()
            .skip_while(|line| line.starts_with("#:"))
            .map_while(|line| line.strip_prefix('#'));
        let paragraph: Vec<&str> = comments.map(str::trim).take_while(|line| !line.is_empty()).collect();
        paragraph.join(" ").trim_end_matches('.').to_owned()
    }
}

/// The recipe of this name.
///
/// # Errors
/// An unknown name, with the known ones.
pub fn by_name(name: &str) -> Result<&'static ShippedRecipe, Failure> {
    let stem = name.strip_suffix(".toml").unwrap_or(name);
    ALL.iter().find(|recipe| recipe.name == stem).ok_or_else(|| {
        let known: Vec<String> = ALL.iter().map(|recipe| format!("`{}`", recipe.name)).collect();
        Failure::input(format!("unknown recipe `{name}`; allowed are {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use distill_recipe::{Document, Recipe, stages};

    #[test]
    fn every_recipe_is_valid_and_says_what_it_is_for() {
        for shipped in ALL {
            assert!(!shipped.description().is_empty(), "{}", shipped.name);
            let document = Document::parse(shipped.name, shipped.text, &[]).expect(shipped.name);
            for stage in stages(&document).expect(shipped.name) {
                Recipe::from_document(stage.document, &distill_train::components()).expect(shipped.name);
            }
        }
    }

    #[test]
    fn every_recipe_of_the_repository_is_in_the_binary() {
        // Tests run in the folder of their crate.
        let files = std::fs::read_dir("../../recipes").unwrap();
        let mut there: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let mut shipped: Vec<String> = ALL.iter().map(|recipe| format!("{}.toml", recipe.name)).collect();
        there.sort();
        shipped.sort();
        assert_eq!(shipped, there);
    }

    #[test]
    fn data_sets_that_recipes_need_are_there_and_named_by_the_recipe() {
        for shipped in ALL {
            if let Some(dataset) = shipped.dataset {
                assert!(distill_datasets::DATASETS.iter().any(|(name, _)| *name == dataset), "{dataset}");
                assert!(shipped.text.contains(&format!("\"datasets/{dataset}/")), "{}", shipped.name);
            }
        }
    }

    #[test]
    fn names_are_found_with_and_without_their_ending() {
        assert_eq!(by_name("quickstart.toml").unwrap().name, "quickstart");
        let failure = by_name("quickstrat").unwrap_err();
        assert!(failure.render(crate::terminal::Paint::PLAIN, 80).contains("`quickstart`"));
    }
}
