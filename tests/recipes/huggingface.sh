#!/bin/bash
# Don't run this: it is a sample.
python run_clm.py --model_name_or_path x --output_dir out \
    --optim rmsprop --learning_rate 1e-4 \
    --optim_args "alpha=0.9, eps=1e-6, centered=True" --weight_decay=0.01  # and so on
