"""What a score must be read beside: the largest class, and word counts with a linear model.

The third control, the same encoder with random weights, is `finetune(random_weights=True)`.
"""

from collections import Counter

from pipeline.evaluation.tasks import Examples

NO_WORDS = ("zh", "ja", "th")


def majority(examples: Examples) -> list[str]:
    """The train part's largest class, for every test example."""
    largest = max(sorted(counted := Counter(example.label for example in examples.train)), key=counted.__getitem__)
    return [largest] * len(examples.test)


def tf_idf(examples: Examples, lang: str) -> list[str]:
    """TF-IDF and logistic regression: words and pairs of words, or 1 to 3 characters where words aren't parted."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    by_character = lang in NO_WORDS
    vectors = TfidfVectorizer(
        analyzer="char" if by_character else "word", ngram_range=(1, 3) if by_character else (1, 2), sublinear_tf=True
    )
    model = make_pipeline(vectors, LogisticRegression(max_iter=1_000, C=10.0))
    model.fit([example.text for example in examples.train], [example.label for example in examples.train])
    return [str(label) for label in model.predict([example.text for example in examples.test])]
