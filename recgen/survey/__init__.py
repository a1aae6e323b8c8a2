"""The human study (I-AM-G appendix F): a questionnaire in one HTML file, and what its answers say.

A respondent sees what a user liked and an item, and ranks images of it from the most to the least appealing: the item's own and
those that generators made for that user, in an order of the respondent's own, cut to one size, without a name. Which image is
whose stands in a key in the run's folder, and nowhere in the questionnaire.
"""
