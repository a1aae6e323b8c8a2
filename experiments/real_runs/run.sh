#!/usr/bin/env bash
# Two runs on real files, from the published files to the report:
#
#   experiments/real_runs/run.sh ML_LATEST_SMALL POSTERS CLOTHING CLOTHING_IMAGES WORK
#
# ML_LATEST_SMALL   the folder of ratings.csv and movies.csv
# POSTERS           a folder or zip of posters named <movieId>.jpg
# CLOTHING          a folder with items.csv (item_id, category)
# CLOTHING_IMAGES a folder or zip of images named <item_id>.jpg
# WORK              where data sets and runs go; what is done there is not done again
set -euo pipefail
[ $# -eq 5 ] || { sed -n 2,10p "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
ml=$1 posters=$2 clothing=$3 photos=$4 work=$5
export OMP_NUM_THREADS=1
mkdir -p "$work/data" "$work/runs"

timed() { /usr/bin/time -a -o "$work/times.txt" -f "%e s, %U s of CPU, %M KiB: $1" "${@:2}"; }

one() { # data set
  timed "run $1" recgen run --config "$here/$1.yaml" --out "$work/runs/$1" --set data_path="$work/data" \
    --set recgen.images="$work/data/$1/images" --set recgen.image_ids="$work/data/$1/images.csv"
}

timed "prepare ml-latest-small" recgen data prepare movielens --raw "$ml" --out "$work/data/ml-latest-small" \
  --images "$posters" --imaged
one ml-latest-small
timed "prepare clothing" recgen data prepare table --raw "$clothing" --out "$work/data/clothing" \
  --images "$photos" --imaged --simulate-users 400
one clothing
python "$here/collect.py" "$work" "$here/result.json"
