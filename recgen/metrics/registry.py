"""The one table of what recgen measures; metrics.json, the report and the README read their words from it.

An exact metrics.json (numbers for show; `low` and `high` are null where no interval exists)::

    {
      "creatives": {
        "rebeca": {
          "delta_r_judge": {"value": 0.121, "low": 0.083, "high": 0.158, "n": 943},
          "delta_r_reward": {"value": 0.148, "low": 0.112, "high": 0.183, "n": 943},
          "over_optimisation_gap": {"value": 0.027, "low": 0.009, "high": 0.045, "n": 943},
          "cis": {"value": 71.2, "low": 70.1, "high": 72.3, "n": 941},
          "cmmd": {"value": 0.68, "low": 0.61, "high": 0.75, "n": 943}
        },
        "ip_adapter": {
          "delta_r_judge": {"value": 0.02, "low": -0.02, "high": 0.06, "n": 943}
        }
      },
      "downstream": {
        "ORI": {
          "recall@10": {"value": 0.061, "low": 0.058, "high": 0.064, "n": 5},
          "ndcg@10": {"value": 0.031, "low": 0.029, "high": 0.033, "n": 5}
        },
        "rebeca": {
          "recall@10": {"value": 0.063, "low": 0.060, "high": 0.066, "n": 5},
          "ndcg@10": {"value": 0.032, "low": 0.030, "high": 0.034, "n": 5}
        }
      },
      "tests": {
        "permutation": {
          "rebeca": {"p": 0.000999, "sd": 5.9, "observed": 0.61, "null_mean": 0.52, "null": [0.51, 0.53]}
        },
        "paired": [
          {
            "a": "rebeca", "b": "ip_adapter", "metric": "delta_r_judge",
            "difference": 0.101, "low": 0.06, "high": 0.14, "p": 0.0001, "n": 943,
            "test": "paired sign-flip permutation over users"
          },
          {
            "a": "rebeca", "b": "ORI", "metric": "ndcg@10",
            "difference": 0.001, "low": -0.001, "high": 0.003, "p": 0.31, "n": 5,
            "test": "paired t over seeds"
          }
        ]
      },
      "unavailable": {"fid": "the package torch-fidelity is not installed; pip install torch-fidelity"},
      "run": {
        "dataset": "ml-100k", "users": 943, "items": 1682, "interactions": 55375, "requests": 943,
        "seed": 2026, "reward": "MICRO", "judge": "MICRO", "same_judge": false,
        "encoder": "demo-clip", "backbone": "demo-sd"
      }
    }

`null` in a permutation test is optional (the report plots it). per_request.parquet has user_id, item_id,
generator, one float column per metric of kind ``"creative"`` (NaN: not measurable), and the 0-based
rank_original_judge and rank_creative_judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower", "none"]
Kind = Literal["creative", "set", "downstream"]
Question = Literal["personal", "same item", "image quality", "ranking"]


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    Attributes
    ----------
    key
        Its name in metrics.json and per_request.parquet.
    title
        Its name in the literature, as tables print it.
    meaning
        One sentence for someone who has not read the papers.
    unit
        What a value counts.
    direction
        Which way is better.
    source
        Where it is defined.
    kind
        One value per creative, per set of creatives, or per retrained recommender.
    question
        The question it helps to answer.
    digits
        Decimals worth printing.
    bounds
        What no value, and so no mean, can lie beyond; None where there is no such thing on either side.
    """

    key: str
    title: str
    meaning: str
    unit: str
    direction: Direction
    source: str
    kind: Kind
    question: Question
    digits: int = 3
    bounds: tuple[float, float] | None = None


SHARE, SIGNED = (0.0, 1.0), (-1.0, 1.0)
RAGAR, REBECA, RECGEN = "RAGAR (evaluation metrics)", "REBECA (section 4.4)", "recgen"

# fmt: off
METRICS: tuple[Metric, ...] = (
    Metric("true_utility_gain", "true utility gain",
           "How much more the simulated user truly likes the creative than the original image (simulated data only).",
           "log-odds of a click", "higher", RECGEN, "creative", "personal"),
    Metric("risen_judge", "share risen (judge)",
           "How often the item stands higher in the user's list with the creative than with its own image, by a model that "
           "took no part in making the image (unless the run says same_judge).",
           "share of creatives", "higher", RECGEN, "creative", "personal", bounds=SHARE),
    Metric("standardised_gain_judge", "standardised gain (judge)",
           "How much more the judge gives the user for the item with the creative than with its own image, as against how far "
           "the user's scores of the catalogue lie apart.",
           "standard deviations of the user's scores", "higher", RECGEN, "creative", "personal"),
    Metric("percentile_gain_judge", "percentile gain (judge)",
           "How large a part of the catalogue the item passes in the user's list when it shows the creative.",
           "share of the catalogue, −1 to 1", "higher", RECGEN, "creative", "personal", 4, bounds=SIGNED),
    Metric("reciprocal_rank_gain_judge", "reciprocal rank gain (judge)",
           "How much the reciprocal of the item's place grows, which counts what happens at the top of the list.",
           "−1 to 1; first to second place is −0.5", "higher", RECGEN, "creative", "personal", 4, bounds=SIGNED),
    Metric("delta_r_judge", "ΔR (judge)",
           "How far the item rises in the user's list when it shows the creative, relative to where it stood, by a model "
           "that took no part in making the image (unless the run says same_judge).",
           "share of the original place; 0 = unchanged, below 1, falls can be large",
           "higher", RAGAR, "creative", "personal"),
    Metric("score_gain_judge", "score gain (judge)",
           "How much more the judge gives the user for the item with the creative than with its own image.",
           "units of the judge's score", "higher", RECGEN, "creative", "personal"),
    Metric("score_gain_reward", "score gain (reward)",
           "The same by the model that the generator may have learned from.",
           "units of the reward model's score", "higher", RECGEN, "creative", "personal"),
    Metric("delta_r_reward", "ΔR (reward)",
           "The same rise by the model whose opinion the generator may have been trained on, so it tends to flatter.",
           "share of the original place", "higher", RAGAR, "creative", "personal"),
    Metric("over_optimisation_gap", "over-optimisation gap",
           "ΔR by the reward minus ΔR by the judge: clearly above zero means the generator learned the reward model's "
           "quirks, not the users' taste.",
           "difference of ΔR; 0 = none", "none", RECGEN, "creative", "personal"),
    Metric("cps", "CPS",
           "How well the creative matches words for what the user likes.",
           "100 × cosine of CLIP embeddings, 0 to 100", "higher", RAGAR, "creative", "personal", 1, bounds=(0, 100)),
    Metric("cpis", "CPIS",
           "How much the creative looks like the images the user liked before, on average.",
           "100 × cosine of CLIP embeddings, −100 to 100", "higher", RAGAR, "creative", "personal", 1, bounds=(-100, 100)),
    Metric("cps_held_out", "CPS (held out)",
           "How well the creative matches words for likes of the user that neither the generator nor its reward has seen.",
           "100 × cosine of CLIP embeddings, 0 to 100", "higher", RECGEN, "creative", "personal", 1, bounds=(0, 100)),
    Metric("cpis_held_out", "CPIS (held out)",
           "How much the creative looks like images that the user liked and that neither the generator nor its reward has seen.",
           "100 × cosine of CLIP embeddings, −100 to 100", "higher", RECGEN, "creative", "personal", 1, bounds=(-100, 100)),
    Metric("topic_precision_content", "topic precision (content)",
           "How often what the creative shows is something that the user has liked an image of; topics are the tagger's phrases.",
           "share of creatives", "higher", REBECA, "creative", "personal", bounds=SHARE),
    Metric("topic_precision_style", "topic precision (style)",
           "The same for how it looks: every phrase of style is that of some image that the user has liked.",
           "share of creatives", "higher", REBECA, "creative", "personal", bounds=SHARE),
    Metric("ssim_personal", "SSIM (history)",
           "How similar the creative is to the user's liked images in light, contrast and structure, pixel by pixel.",
           "−1 to 1; 1 = the same image", "higher", "Wang et al. 2004; RAGAR", "creative", "personal", bounds=SIGNED),
    Metric("lpips_personal", "LPIPS (history)",
           "How different the creative looks from the user's liked images to a network trained on human judgements.",
           "distance; 0 = the same image", "lower", "Zhang et al. 2018; RAGAR", "creative", "personal"),
    Metric("verifier_score", "verifier score",
           "The chance, by a model trained on likes and dislikes, that the user likes the creative.",
           "probability", "higher", REBECA, "creative", "personal", bounds=SHARE),
    Metric("verifier_gain", "verifier gain",
           "How much likelier a like is, by that model, than for the item's own image.",
           "difference of probabilities", "higher", RECGEN, "creative", "personal", bounds=SIGNED),
    Metric("vlm_preference", "VLM preference",
           "How often a vision-language model that is shown images the user liked would give the user the creative and not the "
           "item's own image (or another user's creative); asked in both orders, and a contradiction counts half.",
           "share of requests; 0.5 = none", "higher", "Zheng et al. 2023; recgen", "creative", "personal", bounds=SHARE),
    Metric("vlm_first_place", "VLM position bias",
           "How often that model names the image that it is shown first, whichever that is; 0.5 without a bias.",
           "share of answers", "none", "Zheng et al. 2023; recgen", "set", "personal", bounds=SHARE),
    Metric("retrieved_top1", "found again (first)",
           "How often a search of the catalogue with the creative finds its item first.",
           "share of creatives", "higher", RECGEN, "creative", "same item", bounds=SHARE),
    Metric("retrieved_top10", "found again (first ten)",
           "How often a search of the catalogue with the creative finds its item among the first ten.",
           "share of creatives", "higher", RECGEN, "creative", "same item", bounds=SHARE),
    Metric("cis", "CIS",
           "How much the creative looks like the item's own image.",
           "100 × cosine of CLIP embeddings, −100 to 100", "higher", RAGAR, "creative", "same item", 1, bounds=(-100, 100)),
    Metric("cs", "CS",
           "How well the creative matches the item's own text.",
           "100 × cosine of CLIP embeddings, 0 to 100", "higher", "Hessel et al. 2021; RAGAR", "creative", "same item", 1,
           bounds=(0, 100)),
    Metric("ssim_semantic", "SSIM (reference)",
           "How similar the creative is to the item's own image in light, contrast and structure, pixel by pixel.",
           "−1 to 1; 1 = the same image", "higher", "Wang et al. 2004; RAGAR", "creative", "same item", bounds=SIGNED),
    Metric("lpips_semantic", "LPIPS (reference)",
           "How different the creative looks from the item's own image to a network trained on human judgements.",
           "distance; 0 = the same image", "lower", "Zhang et al. 2018; RAGAR", "creative", "same item"),
    Metric("content_preservation", "content preserved",
           "Whether the creative still shows the thing the item is, read off the image (simulated data only).",
           "share of creatives", "higher", RECGEN, "creative", "same item", bounds=SHARE),
    Metric("cmmd", "CMMD",
           "How far the creatives, as a set, are from the real images, in CLIP space; about 0 for two sets of the same kind.",
           "1000 × MMD² (RBF, sigma 10, unbiased: may fall below 0)",
           "lower", "Jayasumana et al. 2024; REBECA", "set", "image quality", 2),
    Metric("fid", "FID",
           "How far the creatives, as a set, are from the real images, in the features of an Inception network.",
           "squared Fréchet distance; compare equal set sizes only",
           "lower", "Heusel et al. 2017; REBECA", "set", "image quality", 1),
    Metric("recall@10", "Recall@10",
           "How often the item a user chose next is among the recommender's first ten, after retraining with these images.",
           "share of users", "higher", "RecBole", "downstream", "ranking", 4, bounds=SHARE),
    Metric("ndcg@10", "NDCG@10",
           "The same, giving more credit the higher the item stands.",
           "0 to 1", "higher", "Järvelin and Kekäläinen 2002; RecBole", "downstream", "ranking", 4, bounds=SHARE),
    Metric("recall@10 reranked", "Recall@10 in a list",
           "How often the item a user chose next is among the first ten of a short list whose items, all of them, show such an "
           "image; nothing is trained again.",
           "share of users", "higher", RECGEN, "downstream", "ranking", 4, bounds=SHARE),
    Metric("ndcg@10 reranked", "NDCG@10 in a list",
           "The same, giving more credit the higher the item stands.",
           "0 to 1", "higher", RECGEN, "downstream", "ranking", 4, bounds=SHARE),
)
# fmt: on

NOT_BUILT: dict[str, str] = {
    "aesthetic score": "it needs the weights of an aesthetic predictor (a linear head on CLIP ViT-L/14)",
    "HPS": "it needs the weights of HPS v2, a CLIP ViT-H/14 trained on people's preferences",
    "ImageReward": "it needs the weights of ImageReward, a BLIP model trained on people's preferences",
    "NSFW rate": "no metric here: the gate refuses unsafe images, where a classifier such as open_nsfw is installed",
}
"""Metrics of the papers that this version cannot measure, with what each would take."""

BY_KEY: dict[str, Metric] = {metric.key: metric for metric in METRICS}


def lookup(key: str) -> Metric:
    """Return the table's row for `key`, or a plain one for a metric from elsewhere (such as recall@20)."""
    known = BY_KEY.get(key)
    question: Question = "image quality" if key in NOT_BUILT else "ranking"
    return known or Metric(
        key, key, "A metric this version's table does not describe.", "", "none", "", "creative", question
    )
