"""Label photographs by a few labelled ones: label_photos.py NETWORK.onnx PHOTO CLASS/PHOTO...

The network is any from images to features in an ONNX file; the class of a photo is its folder.
"""

import sys
from pathlib import Path

import bench

network, photo, *labelled = sys.argv[1:]
classifier = bench.Classifier("ridge", "onnx", {"backbone.weights": network})
classifier.fit(labelled, [Path(path).parent.name for path in labelled])
probabilities = classifier.predict_proba([photo])[0]
for name, probability in zip(classifier.classes_, probabilities, strict=True):
    print(f"{probability:6.1%}  {name}")
