"""TRL's losses as numbers, which a test compares with ours: `trl_losses.py SPEC.json RESULT.json` in TRL's environment.

SPEC names a model, an adapter to begin with, and cases. Each case has a trainer, its arguments and rows.
RESULT has by the case's name the ids that were trained on, what was logged, and the folder of the trained adapter.
"""

import json
import sys
from pathlib import Path

import datasets
import peft
import safetensors.torch
import torch
import transformers
import trl
from trl.experimental import cpo

TRAINERS = {
    "dpo": (trl.DPOTrainer, trl.DPOConfig),
    "kto": (trl.KTOTrainer, trl.KTOConfig),
    "cpo": (cpo.CPOTrainer, cpo.CPOConfig),
}


class Steps(transformers.TrainerCallback):
    """Keeps what the trainer logs of each step."""

    def __init__(self) -> None:
        self.logs: list[dict] = []

    def on_log(self, _args: object, _state: object, _control: object, logs: dict, **_kwargs: object) -> None:
        if "loss" in logs:
            self.logs.append({key: float(value) for key, value in logs.items()})


def main(spec: dict) -> dict:
    """Train each case, and return its figures by its name."""
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    return {case["name"]: _train(spec, case, Path(spec["scratch"]) / case["name"]) for case in spec["cases"]}


def _train(spec: dict, case: dict, folder: Path) -> dict:
    trainer_class, config_class = TRAINERS[case["trainer"]]
    steps = Steps()
    # The file of a finished adapter says that it is frozen, whatever `from_pretrained` is told.
    lora = peft.LoraConfig.from_pretrained(spec["adapter"])
    lora.inference_mode = False
    trainer = trainer_class(
        model=transformers.AutoModelForCausalLM.from_pretrained(spec["model"], dtype="float32"),
        args=config_class(
            output_dir=str(folder),
            bf16=False,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            train_sampling_strategy="sequential",
            gradient_checkpointing=False,
            **case["arguments"],
        ),
        train_dataset=datasets.Dataset.from_list(case["rows"]),
        processing_class=transformers.AutoTokenizer.from_pretrained(spec["model"]),
        peft_config=lora,
        callbacks=[steps],
    )
    weights = safetensors.torch.load_file(Path(spec["adapter"]) / "adapter_model.safetensors")
    missed = peft.set_peft_model_state_dict(trainer.model, weights).unexpected_keys
    if missed:
        raise SystemExit(f"the initial adapter holds weights that TRL's model lacks: {missed}")
    ids = [
        {key: row[key] for key in row if key.endswith("_ids") and not key.startswith("KL_")}
        for row in trainer.train_dataset
    ]
    trainer.train()
    trainer.model.save_pretrained(folder)
    return {"ids": ids, "logs": steps.logs, "adapter": str(folder)}


if __name__ == "__main__":
    figures = main(json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(figures))
