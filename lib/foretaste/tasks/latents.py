"""latents: a few numbers for each user that say what the user is interested in; churn models and segments read them."""

from foretaste.tasks.interest import INTEREST
from foretaste.tasks.task import Task

LATENTS = Task(
    name="latents",
    question="Which few numbers say what this user is interested in?",
    head="items",
    label=INTEREST.label,  # numbers that say which items will follow, and are judged by that
    train_cut="window",
    metrics="ranking",
    needs_latents=True,
)
