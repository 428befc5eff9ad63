//! `distill recipes`: the recipes that come with the program.

use super::{Context, datasets};
use crate::failure::Failure;
use crate::files::write_whole;
use crate::output;
use crate::shell::word;
use crate::shipped_recipes::{self, ShippedRecipe};
use crate::terminal::table::{Align, Table, wrap};
use crate::terminal::{Paint, width};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// List the recipes that come with the program, or copy one
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Recipes {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a recipe, and the data that it needs where the program brings it, into a folder
    Copy {
        /// Name of the recipe
        name: String,
        /// The folder to write to
        #[arg(long, value_name = "DIR", default_value = ".")]
        to: PathBuf,
    },
}

const EXAMPLES: &str = "\
Examples:
  distill recipes
  distill recipes copy quickstart
  distill recipes copy ag_news --to my-project";

impl Recipes {
    /// Lists or copies.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        match &self.action {
            None => list(),
            Some(Action::Copy { name, to }) => copy(shipped_recipes::by_name(name)?, to, context),
        }
    }
}

fn list() -> Result<(), Failure> {
    let paint = Paint::stdout();
    let mut table = Table::new([Align::Left, Align::Left]);
    table.row(["name", "description"].map(|text| paint.bold(text)));
    let longest = shipped_recipes::ALL.iter().map(|recipe| recipe.name.len()).max().unwrap_or_default();
    for recipe in shipped_recipes::ALL {
        let mut name = recipe.name;
        for line in wrap(&recipe.description(), width() - longest - 2) {
            table.row([name, &line]);
            name = "";
        }
    }
    Ok(output::print(&(table.lines(0).join("\n") + "\n"))?)
}

fn copy(recipe: &ShippedRecipe, folder: &Path, context: &Context) -> Result<(), Failure> {
    let file = format!("{}.toml", recipe.name);
    let here = folder == Path::new(".");
    // Without `./` before each name that is told.
    let folder = if here { Path::new("") } else { folder };
    let path = folder.join(&file);
    let there = std::fs::read(&path).ok();
    if there.as_ref().is_some_and(|text| text != recipe.text.as_bytes()) {
        return Err(Failure::input(format!(
            "`{}` is there already and differs from the recipe",
            path.display()
        ))
        .with_help("move it away, or name another folder by `--to`"));
    }
    if let Some(dataset) = recipe.dataset {
        // The recipe names its data below `datasets/`, seen from the folder that the run starts in.
        datasets::write(&datasets::generate(dataset)?, &folder.join("datasets"), context)?;
    }
    write_whole(&path, recipe.text.as_bytes())?;
    context.voice.note(&format!("wrote `{}`", path.display()));
    let go = if here { String::new() } else { format!("cd {} && ", word(&folder.display().to_string())) };
    context.voice.note(&format!("next: `{go}distill run {file}`"));
    Ok(())
}
