"""What learning from rationales brings: modes of a recipe, parts of its training rows and seeds, as a table and a plot.

    python benchmarks/rationales.py --distill target/release/distill --recipe recipes/step_by_step.toml \\
        --train train.jsonl --set data.test=test.jsonl --output results
    python benchmarks/rationales.py --output results --report-only --plot results/accuracy.svg

The training rows are shuffled once, with a seed that no run has; a part of them is the first so many, so that a larger part
holds the smaller ones. Rows for validation are taken off before, the same for all (`--validation-rows`). A run that is
finished is not repeated, one that was killed goes on. Accuracies are of the test rows, which each run measures once, after its
best model was chosen by validation. With `--teacher-label "{column}"` all rows are learnt once more with a teacher's labels in
place of the recipe's, where it gave one; held-out answers are measured by `rationale.gold` then, which `--set` must name. The plot needs matplotlib.
"""

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
from pathlib import Path

MODES = ["label_only", "single_task", "multi_task"]
TEACHER = "+teacher"
SHUFFLE_SEED = 20261123


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--distill", default="distill", help="the binary")
    parser.add_argument("--recipe", help="a recipe of the task `rationale`")
    parser.add_argument("--train", help="JSON lines with labels and rationales")
    parser.add_argument("--validation-rows", type=int, default=400)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for `distill run`")
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--percent", nargs="+", type=int, default=[25, 50, 100], help="parts of the training rows")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="for all rows; of a part the first alone")
    parser.add_argument("--teacher-label", metavar="TEMPLATE", help="learn all rows with these labels, too")
    parser.add_argument("--threads", type=int, help="of a run [default: all cores]")
    parser.add_argument("--output", required=True, help="folder for everything that is written")
    parser.add_argument("--report-only", action="store_true", help="train nothing, tell what is there")
    parser.add_argument("--plot", help="a picture of accuracy against rows: .svg or .png")
    parser.add_argument("--title", default="", help="of the picture")
    return parser.parse_args()


def split(args, folder):
    """Files of validation rows and of each part of the others."""
    with open(args.train, encoding="utf-8") as file:
        lines = [line for line in file if line.strip()]
    random.Random(SHUFFLE_SEED).shuffle(lines)
    validation, train = lines[: args.validation_rows], lines[args.validation_rows :]
    files = {"validation": validation}
    files.update({f"train-{percent}": train[: len(train) * percent // 100] for percent in args.percent})
    if args.teacher_label:
        # Rows to which the teacher gave no answer are left out.
        columns = re.findall(r"\{(\w+)\}", args.teacher_label)
        answered = [line for line in train if all(json.loads(line).get(column) for column in columns)]
        files["train-100" + TEACHER] = answered
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")


def run(args, folder, mode, percent, seed, label=None):
    """Trains one model, or goes on with it; `label` is a template that replaces the recipe's."""
    output = folder / f"{mode}{TEACHER if label else ''}-{percent}-{seed}"
    command = [args.distill, "run", args.recipe]
    if args.threads:
        command += ["--threads", str(args.threads)]
    settings = [
        *args.set,
        f"output_dir={output}",
        f"seed={seed}",
        f"rationale.mode={mode}",
        f"data.train={folder / f'train-{percent}{TEACHER if label else str()}.jsonl'}",
        f"data.validation={folder / 'validation.jsonl'}",
    ]
    if label:
        settings.append(f"rationale.label={json.dumps(label)}")
    command += [word for setting in settings for word in ("--set", setting)]
    if output.exists():
        command.append("--resume")
    with open(folder / f"{output.name}.log", "a", encoding="utf-8") as log:
        if subprocess.run(command, stderr=log, stdout=log, check=False).returncode:
            sys.exit(f"{output.name} failed: see {log.name}")


def finished(folder):
    """Accuracies of the finished runs: of a mode and a number of rows one of each seed."""
    found = {}
    for path in sorted(folder.glob("*-*-*/run.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        mode = path.parent.name.rsplit("-", 2)[0]
        if record["status"] == "finished" and mode.removesuffix(TEACHER) in MODES:
            accuracy = 100 * record["metrics"]["test"]["accuracy"]
            found.setdefault((mode, record["rows"]["train"]), []).append(accuracy)
    return found


def variants(found):
    """The modes there are, those with a teacher's labels after the others."""
    present = {mode for mode, _ in found}
    return [mode for mode in [*MODES, *(mode + TEACHER for mode in MODES)] if mode in present]


def table(found):
    sizes = sorted({rows for _, rows in found})
    lines = ["| mode | " + " | ".join(f"{rows:,} rows" for rows in sizes) + " |", "|---|" + "---|" * len(sizes)]
    for mode in variants(found):
        cells = []
        for rows in sizes:
            values = found.get((mode, rows), [])
            spread = f" ± {statistics.stdev(values):.1f} ({len(values)})" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}" if values else "")
        name = f"`{mode.removesuffix(TEACHER)}`" + (", a teacher's labels" if mode.endswith(TEACHER) else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(found, path, title):
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "distill", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.2, 3.2), layout="constrained")
    for mode, marker in zip(variants(found), "os^xv+"):
        sizes = sorted(rows for of, rows in found if of == mode)
        means = [statistics.mean(found[mode, rows]) for rows in sizes]
        spread = [statistics.stdev(values) if len(values := found[mode, rows]) > 1 else 0.0 for rows in sizes]
        axes.errorbar(sizes, means, yerr=spread, marker=marker, capsize=3, label=mode.replace(TEACHER, ", teacher's labels"))
    axes.set(xlabel="training rows", ylabel="test accuracy, %", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None, dpi=150)


def main():
    args = arguments()
    folder = Path(args.output)
    if not args.report_only:
        if not (args.recipe and args.train):
            sys.exit("name --recipe and --train, or --report-only")
        folder.mkdir(parents=True, exist_ok=True)
        split(args, folder)
        for percent in sorted(args.percent):
            for seed in args.seeds if percent == 100 else args.seeds[:1]:
                for mode in args.modes:
                    run(args, folder, mode, percent, seed)
        if args.teacher_label:
            for seed in args.seeds:
                for mode in args.modes:
                    run(args, folder, mode, 100, seed, args.teacher_label)
    found = finished(folder)
    if not found:
        sys.exit(f"no finished run in {folder}")
    print(table(found))
    if args.plot:
        plot(found, args.plot, args.title)


if __name__ == "__main__":
    main()
