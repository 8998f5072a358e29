"""The command line: `python -m training.engine VERB ...`; `--help` lists the verbs."""

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from primitives.pipes import end_with_reader
from training.engine import errors, rundir
from training.engine.adapters.settings import BASE, PRECISIONS
from training.engine.config import explain
from training.engine.machine.devices import find_devices
from training.engine.machine.parent import end_with_input, has_pipe
from training.engine.rundir import RunDirectory

INTERRUPTED = 130  # as a shell names what SIGINT ended

_TRAIN = """\
Train a LoRA adapter on the preference pairs of a run directory with DPO.

RUN_DIR needs two files to begin with:

  config.json   {"base_model": "path/or/hub-id"} is enough; every option is listed below
  pairs.jsonl   {"id": "1", "prompt": "...", "chosen": "...", "rejected": "..."} on each line

and holds the adapter in adapter/ when it ends. Run it again after an interruption and it goes on.
With several processes: torchrun --nproc-per-node N -m training.engine train RUN_DIR
"""
_SAMPLE = """\
Write completions for the prompts of a run directory: prompts.jsonl to samples.jsonl.

They come from adapter/ where it exists, else from start_adapter, else from the base model; sampling.policy
chooses another. A line of prompts.jsonl is {"id": "1", "prompt": "..."}, with "n" and "seed" of its own if wanted.
Several directories are written for in turn, which spares the start of a process for each.
"""
_SCORE = """\
Score the pairs of a run directory under its policy and reference: pairs.jsonl to scores.jsonl.

The policy is adapter/ and the reference what it started from, or what the setting reference names; where there is no
adapter/ yet, the policy is start_adapter and the reference the base model, or what the setting names.
"""
_SCALE = """\
Measure how far a trained policy is from its reference, and scale its adapter down to kl_budget: RUN_DIR after train.

KL(policy || reference) is measured on completions that the policy writes now, for the prompts of pairs.jsonl or of
--prompts. Where it is more than kl_budget nats per completion, adapter/ is scaled to the largest size that keeps the
budget, and the trained one is kept in unscaled/. Run it again with another budget, and nothing is trained. It never
scales up. Without a budget it only measures. What it found is in done.json under "scale".
"""
_PROBE = """\
Fit a probe, a small judge of completions, to people's votes: votes.jsonl to probe/ and probe_labels.jsonl.

A line of votes.jsonl is {"id": "1", "prompt": "...", "first": "...", "second": "...", "votes": [...]}, and a vote is
{"annotator": "a", "prefers": "first"}, or "second", or "tie". The base model's hidden states are its features.
"""
_RATE = """\
Rate completions by a probe: samples.jsonl to ratings.jsonl.

The probe is that in probe/, or in the folder that the setting probe names. It belongs to one base model.
"""
_ASSIST = """\
Let a probe label pairs of fresh completions: probe/ to assisted_pairs.jsonl, which train takes beside pairs.jsonl.

The reference writes, for the prompts of assist/prompts.jsonl or else of pairs.jsonl; of every few completions the best
and the worst become a pair, with the probe's chance as its label. A probe without skill on unseen prompts labels none.
"""
_MERGE = """\
Merge the adapter of a run directory into its base model: RUN_DIR to a model in OUT_DIR.

The weights are in safetensors, with tokenizer and configuration. They are in the precision that the base model is
stored in. Where rounding to that takes what was learnt, float16 keeps more, and float32 keeps all in twice the size.
"""
_SERVE = """\
Answer prompts on standard input, a JSON object a line, with models kept warm in between.

A request is {"config": {...}, "prompt": "..."}, with the settings of config.json.
"""
_UNPACK = """\
Make a folder in transformers' format of a GGUF file: weights in bfloat16, tokenizer and chat template.

A run with the file as its base_model unpacks it at every start, which the folder spares.
"""
_PLAN = """\
Tell what a run directory would train and write, how long that takes, and the memory it needs: a dry run.

Tells pairs, tokens, what is cut or left out and why, steps, seconds and peak memory, and proposes settings where it
would not fit. A few rows and completions are computed to know. Trains nothing and writes nothing. With config.json
alone it tells of the base model.
"""
_DEVICES = "Print what a training can compute with on this machine, as JSON."
_STARTER = "Build the starter model and its tokenizer from scratch in OUT_DIR."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code; errors are one sentence on standard error."""
    # Threads that wait by spinning starve whatever shares the processor, down to a tenth of their own speed;
    # PyTorch's OpenMP reads this once, when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # oneDNN keeps a thousand kernels with the memory that they work in; those of one length of rows are enough.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars would fill the log of a round
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.end_with_input:
        if chosen.verb == "serve":
            parser.error("serve ends with its input by itself: leave out --end-with-input")
        if not has_pipe():
            parser.error("--end-with-input needs a pipe as the standard input")
        end_with_input()
    try:
        chosen.command(chosen)
    except errors.EngineError as error:
        return _refuse(error)
    except KeyboardInterrupt:  # `train` writes a checkpoint and ends by itself
        _say("Stopped; what was begun was not written.")
        return INTERRUPTED
    except Exception as error:  # SafetensorError is nothing more
        known = errors.memory_short(error, chosen.verb) or errors.disk_full(error)
        if known is None:
            raise
        return _refuse(known)
    return 0


def _refuse(error: errors.EngineError) -> int:
    _say(f"error: {error}")
    return error.exit_code


def _say(sentence: str) -> None:
    """Print on standard error. Where that goes to a full disk, the exit code alone tells what happened."""
    try:
        print(sentence, file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # Python tries again when it ends


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.engine",
        description="Direct Preference Optimization from a run directory, without the web application.",
        epilog=_layout() + "\n\n" + _codes(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--end-with-input",
        action="store_true",
        help="end once the standard input ends, as a pipe does with the process that writes into it",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB", dest="verb")
    for name, text, command in (
        ("train", _TRAIN, _train),
        ("sample", _SAMPLE, _sample),
        ("score", _SCORE, _score),
        ("scale", _SCALE, _scale),
        ("probe", _PROBE, _probe),
        ("rate", _RATE, _rate),
        ("assist", _ASSIST, _assist),
        ("plan", _PLAN, _plan),
    ):
        verb = verbs.add_parser(
            name,
            help=text.splitlines()[0],
            description=text,
            epilog=_options("sampling.") if name == "sample" else _options(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == "sample":
            verb.add_argument("run_dirs", metavar="RUN_DIR", type=Path, nargs="+")
        else:
            verb.add_argument("run_dir", metavar="RUN_DIR", type=Path)
        verb.set_defaults(command=command)
        if name == "score":
            verb.add_argument(
                "--pairs", type=Path, metavar="FILE", help="score this file instead of pairs.jsonl"
            )
        if name == "scale":
            verb.add_argument(
                "--prompts", type=Path, metavar="FILE", help="measure on these prompts, as in prompts.jsonl"
            )
        if name == "plan":
            verb.add_argument("--json", action="store_true", help="print one JSON object, not a table")
    merge = verbs.add_parser(
        "merge",
        help=_MERGE.splitlines()[0],
        description=_MERGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    merge.add_argument("run_dir", metavar="RUN_DIR", type=Path)
    merge.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="must not exist yet")
    merge.add_argument(
        "--dtype",
        choices=PRECISIONS,
        default=BASE,
        help="precision of the weights: as the base model's, or another",
    )
    merge.set_defaults(command=_merge)
    serve = verbs.add_parser(
        "serve",
        help=_SERVE.splitlines()[0],
        description=_SERVE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument(
        "--idle", type=float, default=300.0, metavar="SECONDS", help="end after so long without a request"
    )
    serve.set_defaults(command=_serve)
    unpack = verbs.add_parser("unpack", help=_UNPACK.splitlines()[0], description=_UNPACK)
    unpack.add_argument("file", metavar="FILE", help="as base_model names it")
    unpack.add_argument("folder", metavar="FOLDER", type=Path, help="must not exist yet")
    unpack.set_defaults(command=_unpack)
    devices = verbs.add_parser("devices", help=_DEVICES, description=_DEVICES)
    devices.set_defaults(command=_devices)
    starter = verbs.add_parser("starter", help=_STARTER, description=_STARTER)
    starter.add_argument("out_dir", metavar="OUT_DIR", type=Path)
    starter.add_argument("--seed", type=int, default=0)
    starter.set_defaults(command=_starter)
    return parser


@contextmanager
def _loading() -> Iterator[None]:
    """Import without the garbage collector, and spare it what was imported.

    PyTorch and its like make a million objects, which live as long as the process. Searching them for garbage takes
    two fifths of a short command's processor time, half of it at the end.
    """
    if "torch" in sys.modules:  # a caller's process, which has more than this command in it
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _train(chosen: argparse.Namespace) -> None:
    run = RunDirectory(chosen.run_dir)
    run.read_config()  # a bad setting is told before PyTorch is loaded
    with _loading():
        from training.engine.train import train

    train(run)


def _score(chosen: argparse.Namespace) -> None:
    run = RunDirectory(chosen.run_dir)
    run.read_config()
    with _loading():
        from training.engine.score import score

    score(run, chosen.pairs)


def _scale(chosen: argparse.Namespace) -> None:
    run = RunDirectory(chosen.run_dir)
    run.read_config()
    with _loading():
        from training.engine.scaling.verb import scale

    scale(run, chosen.prompts)


def _sample(chosen: argparse.Namespace) -> None:
    runs = [RunDirectory(folder) for folder in chosen.run_dirs]
    for run in runs:
        run.read_config()
    with _loading():
        from training.engine.sample import sample

    for run in runs:
        sample(run)


def _probe(chosen: argparse.Namespace) -> None:
    run = RunDirectory(chosen.run_dir)
    run.read_config()
    with _loading():
        from training.engine.probe.probing import fit_run

    fit_run(run)


def _rate(chosen: argparse.Namespace) -> None:
    run = RunDirectory(chosen.run_dir)
    run.read_config()
    with _loading():
        from training.engine.probe.rating import rate

    rate(run)


def _assist(chosen: argparse.Namespace) -> None:
    run = RunDirectory(chosen.run_dir)
    run.read_config()
    with _loading():
        from training.engine.assisting.verb import assist

    assist(run)


def _merge(chosen: argparse.Namespace) -> None:
    run = RunDirectory(chosen.run_dir)
    run.read_config()
    with _loading():
        from training.engine.adapters.merging import merge

    merge(run, chosen.out_dir, chosen.dtype)


def _serve(chosen: argparse.Namespace) -> None:
    with _loading():
        from training.engine.serve import serve

    serve(chosen.idle)


def _unpack(chosen: argparse.Namespace) -> None:
    with _loading():
        from training.engine.model.unpacking import unpack

    unpack(chosen.file, chosen.folder)


def _plan(chosen: argparse.Namespace) -> None:
    with _loading():
        from training.engine.planning.table import lines
        from training.engine.planning.verb import plan

    found = plan(RunDirectory(chosen.run_dir))
    print(rundir.to_json(found, indent=2) if chosen.json else "\n".join(lines(found)))


def _devices(_chosen: argparse.Namespace) -> None:
    print(rundir.to_json(find_devices(), indent=2))


def _starter(chosen: argparse.Namespace) -> None:
    with _loading():
        from training.engine.starter.build import build

    build(chosen.out_dir, seed=chosen.seed)


def _layout() -> str:
    table = [line.strip("| ") for line in (rundir.__doc__ or "").splitlines() if line.startswith("|")]
    return "files of a run directory (written by whom, content):\n" + "\n".join(
        "  " + line.replace(" | ", "  ") for line in table[2:]
    )


def _options(prefix: str = "") -> str:
    lines = ["options in config.json:"]
    for name, default, text, choices in explain():
        if not name.startswith(prefix):
            continue
        lines.append(f"  {name} ({'required' if default is ... else repr(default)})")
        lines.append(f"      {text}" + (f" One of: {', '.join(choices)}." if choices else ""))
    return "\n".join(lines)


def _codes() -> str:
    known = sorted(errors.EngineError.__subclasses__(), key=lambda kind: kind.exit_code)
    lines = [f"  {kind.exit_code:<3} {(kind.__doc__ or '').splitlines()[0]}" for kind in known]
    lines.append(f"  {INTERRUPTED} Ctrl-C stopped what keeps no checkpoint.")
    return "exit codes:\n  0   Done.\n" + "\n".join(lines)


if __name__ == "__main__":
    with end_with_reader():
        sys.exit(main())
