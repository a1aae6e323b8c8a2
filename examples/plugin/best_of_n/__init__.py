"""best_of_n: several images for each request, of which the recommender likes one best."""
