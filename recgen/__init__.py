"""recgen: personalised item images for RecBole, judged by the recommender itself."""

__version__ = "0.1.0"
