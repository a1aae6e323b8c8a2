#!/usr/bin/env bash
# Retrain every shipped model and measure it: about four hours on two cores. Run from the repository's root.
# usage: experiments/demo_models/train.sh [work folder]
set -euo pipefail
here=experiments/demo_models
work=${1:-runs/demo_models}
export PYTHONPATH=. OMP_NUM_THREADS=1
mkdir -p "$work"
python $here/train_tokenizer.py "$work/tokenizer"
python $here/train_reader.py "$work/attribute-reader" &
python $here/train_clip.py "$work/demo-clip" "$work/tokenizer" 1800
python $here/train_vae.py "$work/vae" 1600
wait
if [ -n "${PHOTOS:-}" ]; then # a folder of photographs, see train_resnet.py
    python $here/train_resnet.py "$work/demo-resnet" "$PHOTOS" 260
fi
python $here/train_llm.py "$work/demo-llm" 700 &
python -m torch.distributed.run --nproc-per-node 2 $here/train_diffusion.py \
    "$work/demo-sd" "$work/tokenizer" "$work/vae" "$work/demo-clip" 5000
python $here/train_vae.py "$work/demo-sd/vae" 400 --resume --decoder-only
wait
sed -i /_name_or_path/d "$work"/demo-sd/*/config.json "$work/demo-sd/model_index.json"
for model in attribute-reader demo-clip demo-sd demo-ip-adapter demo-llm; do
    rm -rf "recgen/assets/$model"
    cp -r "$work/$model" "recgen/assets/$model"
done
OMP_NUM_THREADS=2 python $here/measure.py 1000
