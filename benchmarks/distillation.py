"""What a teacher brings to its students: students, methods and seeds of a text classifier, as a table.

    python benchmarks/distillation.py --distill target/release/distill --teacher checkpoints/ag-news \\
        --train train.csv --transfer unlabelled.csv --test test.csv --output results
    python benchmarks/distillation.py --output results --report-only

The files are CSV as AG News has it: no header, the label (from 1) before title and description. Others are told by their
columns, `--text question --label intent`. Without `--transfer` there is no text but the labelled one. A run that is finished is not
repeated, one that was killed goes on, and what the teacher said of a text is asked once (`results/teacher-cache`). Accuracies
are of the test rows, which each run measures once, after its best epoch was chosen by 5% of the labelled rows.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NARROW = 'init = "from_teacher"\nhidden_size = 128\nnum_hidden_layers = 2\nnum_attention_heads = 2\nintermediate_size = 512'
STUDENTS = {
    "layers": {"table": 'init = "from_teacher"\nlayers = [0, 2, 4]', "epochs": 3, "learning_rate": 1e-4},
    "narrow": {"table": NARROW, "epochs": 4, "learning_rate": 5e-4},
    "albert": {"table": NARROW + '\narchitecture = "albert"\nembedding_size = 24', "epochs": 4, "learning_rate": 5e-4},
}
METHODS = ["labels", "soft_labels", "distilbert", "tinybert", "minilm", "augment"]
AUGMENTED_EPOCHS = 2


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--distill", default="distill", help="the binary")
    parser.add_argument("--teacher", help="folder of a fine-tuned classifier")
    parser.add_argument("--train", help="CSV with labels")
    parser.add_argument("--transfer", help="CSV that only the teacher labels")
    parser.add_argument("--test", help="CSV with labels")
    parser.add_argument("--labels", nargs="+", default=["World", "Sports", "Business", "Sci/Tech"])
    parser.add_argument("--text", nargs="+", help="names of columns, of files with a header [default: columns 1 and 2]")
    parser.add_argument("--label", help="name of a column, of files with a header [default: column 0]")
    parser.add_argument("--students", nargs="+", default=list(STUDENTS), choices=STUDENTS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--copies", type=int, default=10, help="of a text, for `augment`")
    parser.add_argument("--longer", type=float, default=1, help="times the epochs of each stage, for small or hard data")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--threads", type=int, help="of a run [default: all cores]")
    parser.add_argument("--output", required=True, help="folder for everything that is written")
    parser.add_argument("--report-only", action="store_true", help="train nothing, tell what is there")
    return parser.parse_args()


def objective(args, student, method):
    """What is minimised, as tables of a recipe."""
    if method == "labels":
        return '[distill]\nlosses = [{ kind = "hard_labels" }]'
    if method == "augment":
        return f'[augment]\ncopies = {args.copies}\n\n[distill]\nlosses = [{{ kind = "soft_labels", temperature = 2.0 }}]'
    if method == "tinybert":
        # Scores of attention are compared head by head: a student with other numbers of heads goes without.
        inner = (["attention"] if student == "layers" else []) + ["hidden_states", "embeddings"]
        losses = ", ".join(f'{{ kind = "{kind}" }}' for kind in inner)
        return "\n".join(
            [
                f"[distill]\nlosses = [{losses}]\n",
                f'[[stage]]\nname = "intermediate"\ntrain = {{ epochs = {2 * args.longer:g} }}\n',
                '[[stage]]\nname = "prediction"\n[stage.distill]',
                'losses = [{ kind = "soft_labels", temperature = 1.0 }]',
            ]
        )
    return f'[distill]\nmethod = "{method}"'


def recipe(args, student, method):
    """A recipe for one student and method; seed and output folder are set by the command."""
    quoted = json.dumps
    of = STUDENTS[student]
    objectives = objective(args, student, method)
    if args.transfer and method != "labels":
        objectives = objectives.replace("[distill]\n", f"[distill]\ntransfer_data = {quoted(path(args.transfer))}\n", 1)
    epochs = args.longer * (AUGMENTED_EPOCHS if method == "augment" else of["epochs"])
    return f"""name = "{student}-{method}"

[task]
kind = "classification"
labels = {quoted(args.labels)}

[teacher]
path = {quoted(path(args.teacher))}

[student]
{of["table"]}

[data]
train = {quoted(path(args.train))}
test = {quoted(path(args.test))}
{columns(args)}
validation_fraction = 0.05
max_length = 128
cache_dir = {quoted(path(Path(args.output) / "teacher-cache"))}

[train]
epochs = {epochs:g}
batch_size = 32
learning_rate = {of["learning_rate"]}
lr_scheduler_type = "linear"
warmup_ratio = 0.06
weight_decay = 0.01
max_grad_norm = 1.0

{objectives}
"""


def columns(args):
    """Where text and label are, as keys of `[data]`."""
    if args.text:
        return f"text = {json.dumps(args.text)}\nlabel = {json.dumps(args.label)}"
    return "header = false\ntext = [1, 2]\nlabel = 0"


def path(name):
    return str(Path(name).resolve())


def run(args, folder, student, method, seed):
    """Trains one student, or goes on with it. Returns the name of its log if it failed."""
    output = folder / f"{student}-{method}-{seed}"
    if (record := read(output / "run.json")) and record["status"] == "finished":
        return None
    command = [args.distill, "run", folder / f"{student}-{method}.toml", "--set", f"seed={seed}"]
    command += ["--set", f"output_dir={output.resolve()}"]
    command += ["--threads", str(args.threads)] if args.threads else []
    command += ["--resume"] if output.exists() else []
    with open(folder / f"{output.name}.log", "a", encoding="utf-8") as log:
        if subprocess.run(command, stderr=log, stdout=log, check=False).returncode:
            return log.name
    shutil.rmtree(output / "checkpoints", ignore_errors=True)
    return None


def read(file):
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def accuracy(record):
    return 100 * record["metrics"]["test"]["accuracy"]


def table(folder, teacher):
    """Markdown: a line of each student and method, seeds in order."""
    lines = ["| student | how | seeds | mean ± deviation | of the teacher's |", "|---|---|---|---|---|"]
    for student in STUDENTS:
        for method in METHODS:
            found = {}
            for file in folder.glob(f"{student}-{method}-*/run.json"):
                record = read(file)
                if record["status"] == "finished":
                    found[record["seed"]] = accuracy(record)
            if not found:
                continue
            values = [found[seed] for seed in sorted(found)]
            seeds = ", ".join(f"{seed}: {found[seed]:.2f}" for seed in sorted(found))
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            mean = statistics.mean(values)
            kept = f"{100 * mean / teacher:.2f}%" if teacher else ""
            lines.append(f"| {student} | `{method}` | {seeds} | {mean:.2f}{spread} | {kept} |")
    return "\n".join(lines)


def main():
    args = arguments()
    folder = Path(args.output)
    if not args.report_only:
        if not (args.teacher and args.train and args.test):
            sys.exit("name --teacher, --train and --test, or --report-only")
        if bool(args.text) != bool(args.label):
            sys.exit("name both --text and --label, or neither")
        folder.mkdir(parents=True, exist_ok=True)
        for student in args.students:
            for method in args.methods:
                (folder / f"{student}-{method}.toml").write_text(recipe(args, student, method), encoding="utf-8")
        if record := read(Path(args.teacher) / "run.json"):
            (folder / "teacher.json").write_text(json.dumps({"accuracy": accuracy(record)}), encoding="utf-8")
        jobs = [(s, m, seed) for s in args.students for m in args.methods for seed in args.seeds]
        with ThreadPoolExecutor(args.jobs) as pool:
            failed = [log for log in pool.map(lambda job: run(args, folder, *job), jobs) if log]
        if failed:
            sys.exit("failed: see " + ", ".join(failed))
    teacher = read(folder / "teacher.json")
    print(table(folder, teacher and teacher["accuracy"]))


if __name__ == "__main__":
    main()
