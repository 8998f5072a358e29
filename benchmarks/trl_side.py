"""TRL's side of the training benchmark; runs in an environment of its own, so it imports nothing of ours.

`python benchmarks/trl_side.py SPEC.json RESULT.json [SPEC.json RESULT.json ...]`: trains the pairs that SPEC names, in
their order, from the adapter that it names, and writes step losses, seconds, peak CUDA memory and a hash of the ids it
trained on.
"""

import gc
import hashlib
import json
import sys
import time
from pathlib import Path

import datasets
import peft
import safetensors.torch
import torch
import transformers
import trl


class Clock(transformers.TrainerCallback):
    """Times training from the first step's begin to the last one's end, and keeps each step's loss."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.seconds = 0.0

    def on_train_begin(self, *_args: object, **_kwargs: object) -> None:
        self.started = time.perf_counter()

    def on_train_end(self, *_args: object, **_kwargs: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.started

    def on_log(self, _args: object, _state: object, _control: object, logs: dict, **_kwargs: object) -> None:
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


class TimedTrainer(trl.DPOTrainer):
    """The trainer as it is; the reference pass that happens in its constructor is timed too."""

    reference_seconds = 0.0

    def _precompute_ref_logps(self, *args: object) -> datasets.Dataset:
        started = time.perf_counter()
        found = super()._precompute_ref_logps(*args)
        self.reference_seconds = time.perf_counter() - started
        return found


def main(spec_file: str, result_file: str) -> None:
    """Train as the spec says."""
    spec = json.loads(Path(spec_file).read_text())
    how = spec["configuration"]
    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    rows = [json.loads(line) for line in Path(spec["pairs"]).read_text().splitlines()]
    arguments = trl.DPOConfig(
        output_dir=spec["scratch"],
        model_init_kwargs={"dtype": how["dtype"]},
        bf16=how["autocast"],
        per_device_train_batch_size=how["micro_batch"],
        gradient_accumulation_steps=spec["batch_size"] // how["micro_batch"],
        precompute_ref_log_probs=how["precompute"],
        precompute_ref_batch_size=how["micro_batch"],
        gradient_checkpointing=how["checkpointing"],
        use_cpu=spec["device"] == "cpu",
        beta=spec["beta"],
        learning_rate=spec["learning_rate"],
        lr_scheduler_type="linear",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch",
        num_train_epochs=1,
        max_length=spec["max_length"],
        train_sampling_strategy="sequential",
        seed=spec["seed"],
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    clock = Clock()
    trainer = TimedTrainer(
        model=spec["model"],
        args=arguments,
        train_dataset=datasets.Dataset.from_list(
            [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows]
        ),
        peft_config=peft.LoraConfig.from_pretrained(spec["adapter"], inference_mode=False),
        callbacks=[clock],
    )
    # PEFT draws initial weights; both sides begin from the same ones.
    weights = safetensors.torch.load_file(Path(spec["adapter"]) / "adapter_model.safetensors")
    missed = peft.set_peft_model_state_dict(trainer.model, weights).unexpected_keys
    if missed:
        raise SystemExit(f"the initial adapter holds weights that TRL's model lacks: {missed}")
    trained_on = hashlib.sha256()
    for row in trainer.train_dataset:
        trained_on.update(repr((row["prompt_ids"], row["chosen_ids"], row["rejected_ids"])).encode())
    trainer.train()
    cuda = spec["device"] == "cuda"
    result = {
        "losses": clock.losses,
        "training_seconds": clock.seconds,
        "reference_seconds": trainer.reference_seconds,
        "ids_sha256": trained_on.hexdigest(),
        "cuda_peak_bytes": torch.cuda.max_memory_allocated() if cuda else 0,
        "versions": {module.__name__: module.__version__ for module in (trl, torch, transformers, peft)},
    }
    Path(result_file).write_text(json.dumps(result))


if __name__ == "__main__":
    for spec_and_result in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            main(*spec_and_result)
        except torch.OutOfMemoryError as error:
            Path(spec_and_result[1]).write_text(json.dumps({"error": str(error)}))
