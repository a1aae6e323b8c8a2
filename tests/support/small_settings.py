"""Settings of each generator small enough to fit and draw in seconds."""

DECODE = {"steps": 2, "guidance_scale": 2.0}
IAMG = {
    "max_steps": 3, "evaluate_every": 3, "requests_per_step": 6, "held_out_users": 2, "learning_rate": 1e-2, "history": 4,
    "tags": 3, "neighbours": 3, "heads": 2, "template": (" {interest}", " {tags}"), "decode": DECODE,
}  # fmt: skip
PMG = {
    "image_tokens": 2, "lora_rank": 2, "mapper_layers": 1, "mapper_width": 8, "mapper_queries": 3, "heads": 2, "max_steps": 4,
    "evaluate_every": 2, "requests_per_step": 6, "held_out_users": 2, "learning_rate": 1e-2,
    "weights": (0.3, 0.7), "decode": DECODE,
}  # fmt: skip
RAGAR = {
    "image_tokens": 2, "lora_rank": 2, "mapper_layers": 1, "mapper_width": 8, "mapper_queries": 3, "heads": 2, "max_steps": 3,
    "evaluate_every": 2, "requests_per_step": 4, "train_users": 5, "held_out_users": 2, "references_per_user": 2, "beta": 0.0,
    "min_history": 1, "learning_rate": 1e-3, "decode": DECODE, "train_decode": DECODE,
    "retrieve_from": "history", "weights": "similarity",
}  # fmt: skip
REBECA = {
    "layers": 2, "heads": 2, "width": 16, "max_steps": 6, "evaluate_every": 3, "users_per_step": 4, "images_per_user": 8,
    "prior_steps": 4, "guidance": 3.0, "learning_rate": 1e-3,
}  # fmt: skip
TASTE = {"decode": DECODE, "trials": 3, "k": 3, "template": "{text} {words}"}
PREFERRED = {
    **TASTE, "keep": None, "looks": (1, 3, 8), "noises": 2, "max_steps": 3, "evaluate_every": 3, "requests_per_step": 4,
    "train_users": 3, "held_out_users": 1, "learning_rate": 1e-2, "rank": 2,
}  # fmt: skip
_GROUPED = {"clusters": 2, "max_steps": 2, "images_per_step": 4, "decode": DECODE}
TEXTUAL_INVERSION = {**_GROUPED, "template": "{text}, {style}", "vectors": 2, "learning_rate": 0.5}
DREAMBOOTH = {**_GROUPED, "rank": 2, "learning_rate": 0.1}
