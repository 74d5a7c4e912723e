./distributed_train.sh 8 /imagenet --model efficientnet_b0 -b 128 --sched step --epochs 450 --decay-epochs 2.4 \
  --decay-rate .97 --opt rmsproptf --opt-eps .001 -j 8 --warmup-lr 1e-6 --weight-decay 1e-5 --lr .048
