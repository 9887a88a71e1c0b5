"""Images: what they are called, what they are made of, and where they are kept.

An image is a configuration (a JSON document, whose digest is the image's ID) and a list of layers (tar archives, each
the difference from the ones below). The engine sees one object, `cutaway.image.images.Images`.
"""
