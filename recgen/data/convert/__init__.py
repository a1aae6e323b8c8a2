"""Published raw files into RecBole's atomic files and images named by item: one module per data set.

Every converter reads the published layout row by row (`raw`), keeps the interactions on disk in pieces by user (`log`), chooses
users, and writes through one `Target` (`target`), which counts what it dropped and why (`tally`). What lies in the output folder:

=====================  =============================================================================================
``<name>.inter``       interactions, each user's oldest first
``<name>.item``        items
``images/``            images that came with the raw files, as ``<name of images.csv>.<ending>``
``images.csv``         item token and image name: what ``recgen.image_ids`` takes, beside ``recgen.images: <folder>/images``
``image_urls.csv``     item token, image name and URL, for `recgen data download`; only where images have to be fetched
``provenance.json``    where the data is from, what was kept, dropped and changed, with an example of each
=====================  =============================================================================================
"""
