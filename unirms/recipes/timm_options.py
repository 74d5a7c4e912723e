"""The options of timm's `train.py`, of release 1.0 and of older ones."""

from __future__ import annotations

from typing import Final

_LONG: Final = """
aa amp amp-dtype amp-impl apex-amp aug-repeats aug-splits batch-size bce-loss bce-pos-weight bce-sum bce-target-thresh
bn-eps bn-momentum bn-tf channels-last checkpoint-hist class-map clip-grad clip-mode color-jitter color-jitter-prob
config cooldown-epochs crop-pct cutmix cutmix-minmax data-dir dataset dataset-download dataset-trust-remote-code
decay-epochs decay-milestones decay-rate device device-modules dist-bn distill-loss-weight dr drop drop-block
drop-connect drop-path epoch-repeats epochs eval-metric experiment fast-norm fuser gaussian-blur-prob gp
grad-accum-steps grad-checkpointing grayscale-prob head-init-bias head-init-scale hflip img-size in-chans
initial-checkpoint input-img-mode input-key input-size interpolation jsd-loss kd-distill-type kd-loss-type
kd-model-name kd-student-feature-dim kd-teacher-feature-dim kd-temperature kd-token-distill-type layer-decay
layer-decay-min-scale layer-decay-no-opt-scale local-rank local_rank log-interval log-wandb lr lr-base lr-base-scale
lr-base-size lr-cycle-decay lr-cycle-limit lr-cycle-mul lr-k-decay lr-noise lr-noise-pct lr-noise-std mean min-lr
mixup mixup-mode mixup-off-epoch mixup-prob mixup-switch-prob model model-dtype model-ema model-ema-decay
model-ema-force-cpu model-ema-warmup model-kwargs momentum naflex-loader naflex-loss-scale naflex-max-seq-len
naflex-patch-size-probs naflex-patch-sizes naflex-patchify-channels-first naflex-train-seq-lens native-amp no-aug
no-ddp-bb no-prefetcher no-resume-opt num-classes opt opt-betas opt-eps opt-kwargs output patience-epochs pin-mem
pretrained pretrained-path ratio recount recovery-interval remode reprob resplit resume save-images scale sched
sched-on-updates seed smoothing split-bn start-epoch std sync-bn synchronize-step target-key task-loss-weight
torchcompile torchcompile-mode torchscript train-batch-sizes train-batches-per-epoch train-crop-mode train-img-sizes
train-interpolation train-num-samples train-size-probs train-size-random-mix train-size-schedule
train-size-schedule-spread train-split train-steps-per-epoch tta use-multi-epochs-loader val-interval val-num-samples
val-split validation-batch-size variable-batch-loss-scale vflip wandb-project wandb-resume-id wandb-tags warmup-epochs
warmup-lr warmup-prefix weight-decay worker-seeding workers
"""
OPTIONS: Final = frozenset(f"--{name}" for name in _LONG.split()) | {"-b", "-c", "-j", "-vb"}
"""`--opt rmsprop` beside any other is another tool's, as torchvision's with `--wd`."""
