"""Label a text by a few labelled ones: label_texts.py FOLDER TEXT, with a CLASS.txt for each class.

The encoder is hashed words and n-grams, which needs nothing installed; minilm knows far more.
"""

import sys
from pathlib import Path

import bench

folder, text = sys.argv[1:]
lines = {file.stem: file.read_text().splitlines() for file in Path(folder).glob("*.txt")}
texts = [line for each in lines.values() for line in each]
labels = [name for name, each in lines.items() for _ in each]
classifier = bench.Classifier("ridge", "hashing").fit(texts, labels)
probabilities = classifier.predict_proba([text])[0]
for name, probability in zip(classifier.classes_, probabilities, strict=True):
    print(f"{probability:6.1%}  {name}")
