"""The margin that TRL's DPOTrainer tells of an adapter in bfloat16; runs in TRL's environment: `trl_margin.py SPEC`.

SPEC is JSON with the paths of the model, the adapter and the pairs, beta and threads. Prints margin / beta, in nats.
"""

import json
import sys
from pathlib import Path

import datasets
import peft
import safetensors.torch
import torch
import trl


def main(spec: dict) -> float:
    """Return the mean margin over the pairs."""
    torch.set_num_threads(spec["threads"])
    datasets.disable_progress_bars()
    rows = [json.loads(line) for line in Path(spec["pairs"]).read_text().splitlines()]
    pairs = datasets.Dataset.from_list(
        [
            {"prompt": row["prompt"]}
            | {key: [{"role": "assistant", "content": row[key]}] for key in ("chosen", "rejected")}
            for row in rows
        ]
    )
    trainer = trl.DPOTrainer(
        model=spec["model"],
        args=trl.DPOConfig(
            output_dir=spec["scratch"],
            model_init_kwargs={"dtype": "bfloat16"},
            bf16=False,
            use_cpu=True,
            beta=spec["beta"],
            per_device_eval_batch_size=4,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=pairs,
        eval_dataset=pairs,
        peft_config=peft.LoraConfig.from_pretrained(spec["adapter"], inference_mode=False),
    )
    weights = safetensors.torch.load_file(Path(spec["adapter"]) / "adapter_model.safetensors")
    missed = peft.set_peft_model_state_dict(trainer.model, weights).unexpected_keys
    if missed:
        raise SystemExit(f"the adapter holds weights that TRL's model lacks: {missed}")
    return float(trainer.evaluate()["eval_rewards/margins"]) / spec["beta"]


if __name__ == "__main__":
    print(main(json.loads(sys.argv[1])))
