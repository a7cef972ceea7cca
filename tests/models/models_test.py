"""The models of this folder: with all guards they hold, without any one of them they break.

    models_test.py                        every case of CASES, one after the other
    models_test.py ballots.no_adopt ...   some of them; --list names all

docs/qdisk-models.md says what they show. spin.py runs the searches.
"""

import dataclasses
import sys
import unittest

import spin

HOLDS = "holds"        # exhaustive, no error
BREAKS = "breaks"      # an assertion fails
PROGRESS = "progress"  # the promise is kept in every fair run
STALLS = "stalls"      # it is not


@dataclasses.dataclass(frozen=True)
class Case:
    model: str
    name: str
    wanted: str
    defines: tuple

    def __str__(self):
        return f"{self.model}.{self.name}"


def _mutants(model, *groups):
    """Each group: defines, and the mutants to try with them."""
    return [Case(model, mutant.lower(), BREAKS, (*defines.split(), f"MUTANT_{mutant}"))
            for defines, mutants in groups for mutant in mutants.split()]


def _case(model, name, wanted, defines=""):
    return Case(model, name, wanted, tuple(defines.split()))


ONE_EPOCH = "SECOND_BALLOTS=0"
CASES = [
    _case("ballots", "two_nodes", HOLDS, "SECOND_BALLOTS=2"),
    _case("ballots", "two_nodes_no_crash", HOLDS, "CRASHES=0"),
    _case("ballots", "two_nodes_two_crashes", HOLDS, f"CRASHES=2 {ONE_EPOCH}"),
    _case("ballots", "two_nodes_late_request", HOLDS, f"LATE_RPC {ONE_EPOCH}"),
    _case("ballots", "two_nodes_forget", HOLDS, "FORGETS SECOND_BALLOTS=1"),
    _case("ballots", "two_nodes_witness_leaves", HOLDS, "VOTERS_3=3 CRASHES=0"),
    _case("ballots", "three_nodes", HOLDS, "NODES=3 CRASHES=0 SECOND_BALLOTS=1"),
    _case("ballots", "three_nodes_crash", HOLDS, f"NODES=3 {ONE_EPOCH}"),
    _case("ballots", "reach", BREAKS, "REACH"),
    _case("ballots", "progress", PROGRESS, f"PROGRESS CRASHES=0 {ONE_EPOCH}"),
    _case("ballots", "no_retry", STALLS, f"PROGRESS CRASHES=0 {ONE_EPOCH} MUTANT_NO_RETRY"),
    *_mutants("ballots",
              (ONE_EPOCH, "NO_ADOPT NO_REREAD NO_OWN_PREEMPT NEW_MAJORITY ANSWER_FIRST"),
              (ONE_EPOCH, "RECOVER_AT_WITNESS GHOST LEARN_BLOCK LEARN_MAJORITY"),
              (f"{ONE_EPOCH} LATE_RPC", "OLD_REQUEST"),
              (f"{ONE_EPOCH} FORGETS", "DROP_BAL"),
              ("SECOND_BALLOTS=1", "LATER_IS_EMPTY"),
              ("SECOND_BALLOTS=1 FORGETS", "BACK_AN_EPOCH"),
              ("FORGETS", "REREAD_ONCE")),

    _case("verify_after_register", "two_paths", HOLDS),
    _case("verify_after_register", "record_first", HOLDS, "RECORD_FIRST MUTANT_DECIDED_ONLY"),
    _case("verify_after_register", "reach", BREAKS, "PATHS=1 REACH"),
    *_mutants("verify_after_register",
              ("PATHS=1", "NO_RULE_V EARLY_READ PREEMPT_FIRST DECIDED_ONLY REQUEUE NO_DRAIN"),
              ("PATHS=1", "OVERTAKE NO_RELINQUISH RELINQUISH_BUSY RELINQUISH_FIRST MEMBER_ONLY")),

    _case("lease_takeover", "all_guards", HOLDS),
    _case("lease_takeover", "long_t", HOLDS, "LONG_T MUTANT_NO_MARGIN"),
    _case("lease_takeover", "reach", BREAKS, "REACH"),
    *_mutants("lease_takeover",
              ("", "FROM_RECEIPT FROM_SIGHT SHORT_T BLIND_PET NO_MARGIN LATE_START"),
              ("", "ACK_ANYWAY OTHER_ACK ONE_ACK")),
]


class ModelTest(unittest.TestCase):
    def __init__(self, case):
        super().__init__()
        self.case = case

    def __str__(self):
        return str(self.case)

    def runTest(self):
        case = self.case
        outcome = spin.search(case.model, case.defines, case.wanted in (PROGRESS, STALLS))
        print(f"{case}: {outcome.states} states, depth {outcome.depth}, {outcome.errors} errors "
              f"{outcome.assertion}", file=sys.stderr)
        if outcome.problem:
            self.fail(outcome.problem)
        if case.wanted in (HOLDS, PROGRESS) and not outcome.holds:
            self.fail(f"{outcome.assertion or 'a run without end'}; the end of the run that "
                      f"leads there:\n{outcome.trail}")
        if case.wanted == BREAKS:
            self.assertTrue(outcome.assertion, "no assertion fails: nothing shows that the guard "
                                               "is needed")
        if case.wanted == STALLS:
            self.assertTrue(outcome.cycle, "it makes progress without the guard")


def main(arguments):
    by_name = {str(case): case for case in CASES}
    if arguments == ["--list"]:
        print("\n".join(by_name))
        return 0
    unknown = [name for name in arguments if name not in by_name]
    if unknown:
        print(f"no case {', '.join(unknown)}; --list names them", file=sys.stderr)
        return 2
    suite = unittest.TestSuite(ModelTest(by_name[name]) for name in arguments or by_name)
    return 0 if unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
