//! `distill compare`: models side by side on the same rows.

mod columns;
mod conditions;
mod names;

use super::Context;
use super::data_arguments::DataArguments;
use super::model_arguments::ModelSettings;
use super::run_record::RunRecord;
use crate::failure::Failure;
use crate::files::write_whole;
use crate::plot::{Dot, Format as PlotFormat, Scatter};
use crate::terminal::{Paint, width};
use crate::{output, threads};
use clap::{Args, ValueEnum};
use distill_train::compare::{Comparison, Contender, Rapl, Timing, compare};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Measure models side by side: accuracy, agreement with the first, size, latency, throughput
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Compare {
    /// Output folders of runs, checkpoints, Hugging Face folders or hub ids; the first is what the others are compared with
    #[arg(value_name = "MODEL", required = true, num_args = 2..)]
    models: Vec<String>,
    #[command(flatten)]
    data: DataArguments,
    /// csv, tsv, jsonl, parquet or text [default: by the extension]
    #[arg(long, value_name = "FORMAT")]
    data_format: Option<String>,
    #[command(flatten)]
    settings: ModelSettings,
    /// Texts that each model answers one at a time, for its latency
    #[arg(long, value_name = "N", default_value = "500", help_heading = "Timing")]
    latency_texts: NonZeroUsize,
    /// Batches that each model answers in every round, for its throughput
    #[arg(long, value_name = "N", default_value = "8", help_heading = "Timing")]
    batches: NonZeroUsize,
    /// How often the turn goes round the models
    #[arg(long, value_name = "N", default_value = "10", help_heading = "Timing")]
    rounds: NonZeroUsize,
    /// Texts at the beginning of each turn that are not timed
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Timing")]
    warmup: usize,
    /// How the result is written to stdout
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
    /// Also write the table to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also write all that was measured to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also plot accuracy against latency to this file, a PNG or an SVG by its name
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

const EXAMPLES: &str = "\
Examples:
  distill compare checkpoints/teacher checkpoints/student --data test.csv
  distill compare org/model checkpoints/a checkpoints/b --data test.csv --markdown table.md --plot models.png
  distill compare checkpoints/teacher checkpoints/student --data test.csv --threads 1 --format json | jq '.models[1].latency_speedup'

Labels are matched by name. Columns are those of the first run among the models, unless they are given.
Latency is the time from one text to its label, throughput that of full batches of texts of like length;
tokenising is in both. Models are timed by turns, so that what else the machine does hits all of them alike.";

impl Compare {
    /// Measures the models.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        threads::set(context.threads, None)?;
        let plot_format = self.plot.as_deref().map(PlotFormat::of).transpose()?;
        self.check_files()?;
        let records: Vec<RunRecord> = self.models.iter().map(|model| RunRecord::of(model)).collect();
        let table = records.iter().find_map(RunRecord::data_table);
        let spec = self.data.spec(table.as_ref(), self.data_format.as_deref())?;
        let mut contenders = Vec::with_capacity(self.models.len());
        for (model, record) in self.models.iter().zip(&records) {
            let predictor = self.settings.load(model, context)?;
            contenders.push(Contender::new(model, predictor, record.label_map())?);
        }
        let rapl = Rapl::find();
        let mut observer = context.voice.observer();
        let compared = compare(&contenders, &spec, &self.timing(), rapl.as_ref(), observer.as_mut());
        drop(observer);
        let compared = compared?;
        let printed = self.print(&compared);
        // Minutes of measuring are not to be lost because nobody reads stdout any more.
        self.write_files(&compared, plot_format, context)?;
        Ok(printed?)
    }

    fn timing(&self) -> Timing {
        Timing {
            latency_texts: self.latency_texts.get(),
            batch_size: self.settings.batch_size(),
            batches: self.batches.get(),
            rounds: self.rounds.get(),
            warmup: self.warmup,
        }
    }

    /// Says before the work, not after it, what can never be written.
    fn check_files(&self) -> Result<(), Failure> {
        for path in [&self.markdown, &self.json, &self.plot].into_iter().flatten() {
            if path.is_dir() {
                return Err(Failure::io("write", path.display(), io::ErrorKind::IsADirectory.into()));
            }
        }
        Ok(())
    }

    fn print(&self, compared: &Comparison) -> io::Result<()> {
        match self.format {
            Format::Json => output::print_json(compared),
            Format::Text => output::print(&render(compared, Paint::stdout(), width())),
        }
    }

    fn write_files(
        &self,
        compared: &Comparison,
        plot_format: Option<PlotFormat>,
        context: &Context,
    ) -> Result<(), Failure> {
        let written = |path: &Path, contents: &[u8]| {
            write_whole(path, contents)?;
            context.voice.note(&format!("wrote `{}`", path.display()));
            Ok::<(), Failure>(())
        };
        if let Some(path) = &self.markdown {
            written(path, markdown(compared).as_bytes())?;
        }
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(compared)
                .map_err(|error| Failure::other(format!("cannot write JSON: {error}")))?;
            written(path, (text + "\n").as_bytes())?;
        }
        if let (Some(path), Some(format)) = (&self.plot, plot_format) {
            let bytes = format.encode(&scatter(compared).scene()?);
            written(path, &bytes.map_err(|error| Failure::io("write", path.display(), error))?)?;
        }
        Ok(())
    }
}

/// All of a comparison, with a line end: one table where there is room, else one of what the models are and one of how
/// fast they are.
fn render(compared: &Comparison, paint: Paint, width: usize) -> String {
    let mut lines = columns::tables(compared, paint, width);
    lines.push(String::new());
    lines.extend(conditions::of(compared, paint).lines(width));
    lines.join("\n") + "\n"
}

fn markdown(compared: &Comparison) -> String {
    let mut text = columns::markdown(compared);
    text.push('\n');
    for (name, fact) in conditions::facts(compared) {
        text.push_str(&format!("- {name}: {fact}\n"));
    }
    text
}

fn scatter(compared: &Comparison) -> Scatter {
    let dot = |(name, model): (String, &distill_train::compare::Compared)| Dot {
        name,
        x: model.speed.latency_ms.p50,
        y: model.accuracy * 100.0,
    };
    Scatter {
        title: format!("Accuracy against latency, {}", conditions::data(compared)),
        x_name: "latency, median of one text (ms)".to_owned(),
        y_name: "accuracy (%)".to_owned(),
        y_allowed: 0.0..=100.0,
        dots: names::of(compared).into_iter().zip(&compared.models).map(dot).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distill_train::Computing;
    use distill_train::bench::Spread;
    use distill_train::compare::{Compared, Speed};

    fn model(model: &str, accuracy: f64, parameters: u64, p50: f64, energy: Option<f64>) -> Compared {
        Compared {
            model: model.to_owned(),
            accuracy,
            macro_f1: accuracy - 0.0004,
            agreement: if parameters > 20_000_000 { 1.0 } else { 0.9612 },
            parameters,
            parameters_ratio: parameters as f64 / 22_714_756.0,
            weight_bytes: parameters * 4 + 8008,
            weight_bytes_ratio: parameters as f64 / 22_714_756.0,
            max_length: 128,
            speed: Speed {
                latency_ms: Spread { min: p50 * 0.6, p50, p90: p50 * 1.3, p99: p50 * 1.9 },
                tokenizing_ms: Spread { min: 0.02, p50: 0.09 + p50 / 1000.0, p90: 0.1, p99: 0.3 },
                examples_per_second: 2400.0 / p50,
                examples_per_second_tokenized: 2500.0 / p50,
                energy_mj_per_example: energy,
            },
            latency_speedup: 8.2 / p50,
            throughput_speedup: 8.2 / p50,
        }
    }

    fn sample(energy: Option<f64>) -> Comparison {
        Comparison {
            data: vec!["data/ag_news/test.csv".to_owned()],
            rows: 7600,
            labels: ["World", "Sports", "Business", "Sci/Tech"].map(str::to_owned).to_vec(),
            computing: Computing {
                device: "flex".to_owned(),
                dtype: "bf16".to_owned(),
                instruction_set: Some("avx512_bf16".to_owned()),
                threads: 2,
            },
            timing: Timing { latency_texts: 500, batch_size: 32, batches: 8, rounds: 10, warmup: 5 },
            models: vec![
                model("checkpoints/ag-news", 0.9021, 22_714_756, 8.2, energy),
                model("checkpoints/students/a|3x384", 0.8996, 17_390_000, 4.1, energy),
                model("checkpoints/students/b", 0.8902, 4_386_000, 0.31, None),
            ],
        }
    }

    #[test]
    fn tells_what_was_measured() {
        insta::assert_snapshot!(render(&sample(Some(41.27)), Paint::PLAIN, 160));
    }

    #[test]
    fn a_narrow_terminal_has_two_tables() {
        let text = render(&sample(None), Paint::PLAIN, 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn markdown_is_one_table() {
        insta::assert_snapshot!(markdown(&sample(None)));
    }

    #[test]
    fn the_plot_has_a_dot_a_model() {
        let plot = scatter(&sample(None));
        let dots: Vec<(&str, f64, f64)> =
            plot.dots.iter().map(|dot| (dot.name.as_str(), dot.x, (dot.y * 100.0).round() / 100.0)).collect();
        assert_eq!(dots, [("ag-news", 8.2, 90.21), ("a|3x384", 4.1, 89.96), ("b", 0.31, 89.02)]);
        let scene = plot.scene().unwrap();
        assert!(PlotFormat::Png.encode(&scene).unwrap().starts_with(b"\x89PNG"));
        assert_eq!(scene.title, "Accuracy against latency, test.csv (7,600 rows)");
    }
}
