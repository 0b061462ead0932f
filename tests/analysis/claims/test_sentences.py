"""The list of the paper's sentences and the ledger hold each other."""

from analysis.claims.memorization import CLAIMS, TUNING_CLAIMS
from analysis.claims.sentences import SENTENCES

NAMES = {claim.id for claim in (*CLAIMS, *TUNING_CLAIMS)}


def test_every_claim_decides_a_sentence_of_the_paper():
    assert NAMES - {name for sentence in SENTENCES for name in sentence.claims} == set()


def test_every_sentence_has_claims_of_the_ledger_or_says_why_it_has_none():
    for sentence in SENTENCES:
        assert set(sentence.claims) <= NAMES, sentence.says
        assert bool(sentence.claims) != bool(sentence.undecidable), sentence.says


def test_no_sentence_stands_twice():
    assert len({(sentence.place, sentence.says) for sentence in SENTENCES}) == len(SENTENCES)


def test_every_figure_and_table_that_measures_something_has_a_sentence_with_claims():
    told = " ".join(sentence.place for sentence in SENTENCES if sentence.claims) + ","
    wanted = [*(f"Fig. {number}" for number in range(1, 21)), "Table 1", "C.5", "Cor. 5.3", "Prop. 5.6"]
    wanted += ["Abstract", "Section 7", "A.2.3", "A.3"]
    assert [
        place for place in wanted if f"{place}," not in told and f"{place} " not in told and f"{place};" not in told
    ] == []
