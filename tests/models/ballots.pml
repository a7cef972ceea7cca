/*
 * Disk Paxos (Gafni, Lamport) for one epoch and the one after it: docs/qdisk-models.md, "Ballots".
 *
 * NODES nodes; an acceptor is a node (blocks in a file of its own, written before it answers) or
 * the witness (blocks on a disk, no check there, a write lands some time after it was sent). Every
 * acceptor holds one block for each node, and only that node writes it. Each epoch has ballots 1 to
 * 3; ballot b belongs to node (b - 1) % NODES. The value that is decided says who votes in the next
 * epoch: NEXT_VOTERS.
 *
 * A node loses what is in memory up to CRASHES times. It comes back at once: to be down is to do
 * nothing, and to be unreachable is not to be called. Its write to the witness may still be on the
 * way then (`stale`); with LATE_RPC also a request of a to b. What is decided it keeps on its own
 * disk; with FORGETS it does not.
 *
 * Asserted: at most one value is decided in an epoch, whoever learns it and however. With
 * PROGRESS, a node that is left alone with the witness decides.
 *
 * With REACH the assertion is that no node decides the second epoch in ballot 3 after a crash: it
 * must fail, or the search would have looked at too little.
 *
 * Mutants, each with the guard that it removes:
 *   MUTANT_NO_ADOPT             phase 1 adopts the value of the greatest bal that it has read
 *   MUTANT_NO_REREAD            phase 2 reads again after it has written, and gives up on a
 *                               greater mbal
 *   MUTANT_NO_OWN_PREEMPT       a new life preempts its own old key before it reads its block
 *   MUTANT_NEW_MAJORITY         majorities are those of the voters that the epoch before has named
 *   MUTANT_ANSWER_FIRST         a node's block is on its disk before it answers
 *   MUTANT_RECOVER_AT_WITNESS   a new life reads its own block at a majority, not at the witness
 *   MUTANT_DROP_BAL             a node keeps its bal and value when it begins the next ballot
 *   MUTANT_BACK_AN_EPOCH        a new life that finds its own block of a later epoch than it knows
 *                               begins no ballot in the earlier one
 *   MUTANT_REREAD_ONCE          a new life that learns of an epoch reads its own block at a
 *                               majority of that epoch's voters, too
 *   MUTANT_GHOST                no write to the witness while an earlier one has not ended
 *   MUTANT_LATER_IS_EMPTY       a block of a later epoch ends the ballot
 *   MUTANT_LEARN_BLOCK          a phase-2 block does not say that its value is decided
 *   MUTANT_LEARN_MAJORITY       nor do phase-2 blocks of one ballot at a majority
 *   MUTANT_OLD_REQUEST          a node refuses a block that is less than the one it holds
 *   MUTANT_NO_RETRY             a node that was outbid tries a greater ballot
 */
#ifndef NODES
#define NODES 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef SECOND_BALLOTS
#define SECOND_BALLOTS 3  /* ballots of the second epoch */
#endif

#define WITNESS NODES  /* its number as an acceptor */
#define ACCEPTORS (NODES + 1)
#define BIT(q) (1 << (q))

/* Voters as bits of acceptors, in the order a, b, (c,) witness. */
#if NODES == 2
#define FIRST_VOTERS 7
#ifndef VOTERS_3
#define VOTERS_3 1  /* the last man alone; 3: the witness has no vote any more */
#endif
#define NEXT_VOTERS(v) ((v) == 3 -> VOTERS_3 : 7)
#define MAY_PROPOSE(n, v) ((n) == 0 -> (v) != 2 : (v) == 2)
#else
#define FIRST_VOTERS 7                                   /* a b c */
#define NEXT_VOTERS(v) ((v) == 1 -> 11 : ((v) == 2 -> 14 : 7)) /* a b W; b c W; a b c */
#define MAY_PROPOSE(n, v) ((v) == (n) + 1)
#endif

/* epoch, mbal, bal, value, two bits each: ordered as the numbers that they are. */
#define BLOCK(e, m, b, v) (((e) << 6) | ((m) << 4) | ((b) << 2) | (v))
#define EPOCH(x) ((x) >> 6)
#define MBAL(x) (((x) >> 4) & 3)
#define BAL(x) (((x) >> 2) & 3)
#define VALUE(x) ((x) & 3)

#define COUNT(m) (((m) & 1) + (((m) >> 1) & 1) + (((m) >> 2) & 1) + (((m) >> 3) & 1))
#define MAJORITY(m, v) (2 * COUNT((m) & (v)) > COUNT(v))

#define AT(q, n) block[(q) * NODES + (n)]
byte block[ACCEPTORS * NODES];
#ifdef MUTANT_ANSWER_FIRST
byte on_disk[NODES * NODES];
#endif

#define KNOWN(n, e) known[(e) * NODES + (n)]
byte known[3 * NODES];  /* the decided value of epochs 1 and 2, as the node has it on its disk */
byte decided[3];        /* observer: of each epoch */
/* When nobody is in an epoch any more its blocks are empty for all: they become 0, which is one
   state and not many. */
#ifdef FORGETS
#define ALL_KNOW(e) false
#elif NODES == 2
#define ALL_KNOW(e) (KNOWN(0, e) != 0 && KNOWN(1, e) != 0)
#else
#define ALL_KNOW(e) (KNOWN(0, e) != 0 && KNOWN(1, e) != 0 && KNOWN(2, e) != 0)
#endif
#define LANDED(x) ((x) == 0 || ALL_KNOW(EPOCH(x)) -> 0 : (x))

byte crashes;
bool dead[NODES];

#ifdef FORGETS
#define CAN_FORGET (epoch > 1)
#else
#define CAN_FORGET (fly != 0)
#endif

#define RECOVERS 0  /* a new life: to preempt the old one on the witness */
#define REREADS 1   /* to read its own block at a majority */
#define IDLE 2
#define PHASE_1 3
#define PHASE_2 4
#define IN_BALLOT (phase >= PHASE_1)

inline learn(v) {
  assert(decided[epoch] == 0 || decided[epoch] == v);
#ifdef REACH
  assert(!(epoch == 2 && phase == PHASE_2 && MBAL(mine) == 3 && crashes == CRASHES));
#endif
  decided[epoch] = v;
  KNOWN(n, epoch) = v;
  if
  :: ALL_KNOW(epoch) ->
    m = 0;
    do
    :: m < ACCEPTORS * NODES ->
      if
      :: EPOCH(block[m]) <= epoch -> block[m] = 0
      :: else
      fi;
      m++
    :: else -> break
    od;
    m = 0
  :: else
  fi;
  if
  :: EPOCH(mine) <= epoch -> mine = 0  /* it counts as empty from here on */
  :: else
  fi;
  epoch++;
  voters = NEXT_VOTERS(v);
  value = 0;
  if
#if defined(FORGETS) && !defined(MUTANT_REREAD_ONCE)
  :: reborn && phase != RECOVERS -> give_up(); phase = REREADS
#endif
  :: else ->
    if
    :: IN_BALLOT -> give_up()
    :: else
    fi
  fi
}

inline give_up() {
  phase = IDLE;
  seen = 0;
  best = 0;
  wrote = 0;
}

inline begin(b) {
  if
#ifndef MUTANT_DROP_BAL
  :: EPOCH(mine) == epoch -> mine = BLOCK(epoch, b, BAL(mine), VALUE(mine))
#endif
  :: else -> mine = BLOCK(epoch, b, 0, 0)
  fi;
  phase = PHASE_1;
  best = mine & 15;
  seen = 0;
  wrote = 0
}

#ifdef MUTANT_LATER_IS_EMPTY
#define BEHIND false
#else
#define BEHIND (EPOCH(x) > epoch)
#endif
#ifdef MUTANT_NO_REREAD
#define OUTBID (EPOCH(x) == epoch && MBAL(x) > MBAL(mine) && phase == PHASE_1)
#else
#define OUTBID (EPOCH(x) == epoch && MBAL(x) > MBAL(mine))
#endif
#define OVERTAKEN (BEHIND || OUTBID)

/* Reads what the other nodes have written at acceptor q, which has this node's block. */
inline read_others(q) {
  seen = seen | BIT(q);
  m = 0;
  do
  :: m == NODES || !IN_BALLOT -> break
  :: m < NODES && IN_BALLOT ->
    x = AT(q, m);
    if
    :: m != n && OVERTAKEN -> give_up()
    :: m == n || EPOCH(x) != epoch -> skip
    :: m != n && EPOCH(x) == epoch && !OVERTAKEN ->
      if
      :: phase == PHASE_1 && BAL(x) > BAL(best) -> best = x & 15
      :: else
      fi
    fi;
    m++
  od;
  m = 0;
  x = 0
}

/* One request to a node: it writes this node's block, and answers with all that it has. */
inline call(q) {
  if
  :: mine >= AT(q, n) ->
    AT(q, n) = mine;
    read_others(q)
  :: else -> give_up()
  fi
}

#define CALLABLE(q) (IN_BALLOT && (voters & BIT(q)) && !(seen & BIT(q)) && !dead[q])
#define REREADABLE(q) (phase == REREADS && (voters & BIT(q)) && !(seen & BIT(q)))

#ifdef MUTANT_NEW_MAJORITY
#define NAMED(v) (phase == PHASE_2 -> NEXT_VOTERS(v) : voters)
#else
#define NAMED(v) voters
#endif

#ifdef MUTANT_NO_RETRY
#define MAY_RETRY(b) ((b) <= NODES)
#else
#define MAY_RETRY(b) true
#endif
#define CAN_BEGIN(b) (phase == IDLE && epoch < 3 && ((b) - 1) % NODES == n && \
  (epoch == 1 || (b) <= SECOND_BALLOTS) && MAY_RETRY(b) && \
  (EPOCH(mine) < epoch || (EPOCH(mine) == epoch && MBAL(mine) < (b))))

#define FREE_CHOICE (phase == PHASE_1 && MAJORITY(seen, voters) && BAL(best) == 0)
inline propose(v) {
  mine = BLOCK(epoch, MBAL(mine), MBAL(mine), v);
  phase = PHASE_2;
  best = 0;
  seen = 0;
  wrote = 0
}

inline crash() {
  crashes++;
  if
  :: fly != 0 -> stale = fly; fly = 0
  :: else
  fi;
  mine = 0;
  best = 0;
  seen = 0;
  wrote = 0;
#ifdef FORGETS
  reborn = true;
  epoch = 1;
  voters = FIRST_VOTERS;
  KNOWN(n, 1) = 0;
  KNOWN(n, 2) = 0;
#endif
  phase = RECOVERS
#ifdef MUTANT_ANSWER_FIRST
  ;
  m = 0;
  do
  :: m < NODES -> AT(n, m) = on_disk[n * NODES + m]; m++
  :: else -> break
  od;
  m = 0
#endif
}

/* Its own block of a later epoch says that it has forgotten a decision: it begins no ballot until
   it has learnt that. */
#ifdef MUTANT_BACK_AN_EPOCH
#define OLDEST epoch && EPOCH(AT(q, n)) <= epoch
#else
#define OLDEST epoch
#endif
inline reread(q) {
  seen = seen | BIT(q);
  if
  :: EPOCH(AT(q, n)) >= OLDEST && AT(q, n) > mine -> mine = AT(q, n)
  :: else
  fi
}

active [NODES] proctype Node() {
  byte n = _pid;
  byte epoch = 1;
  byte voters = FIRST_VOTERS;
  byte phase = IDLE;
  byte mine;   /* its block, as it wants it to be everywhere */
  byte best;   /* phase 1: bal and value, the greatest bal read */
  byte seen;   /* acceptors that are done in this phase */
  byte fly;    /* its write on the way to the witness */
  bool wrote;  /* the witness holds `mine` */
  byte stale;  /* a former life's write that is still on the way to the witness */
  byte x, m, value;
#ifdef FORGETS
  bool reborn;
#endif
#ifdef LATE_RPC
  byte late;   /* a's request to b that comes late, perhaps from a former life */
#endif

end:
  do
  :: d_step { CAN_BEGIN(1) -> begin(1) }
  :: d_step { CAN_BEGIN(2) -> begin(2) }
  :: d_step { CAN_BEGIN(3) -> begin(3) }

  :: d_step { CALLABLE(0) -> call(0) }
  :: d_step { CALLABLE(1) -> call(1) }
#if NODES == 3
  :: d_step { CALLABLE(2) -> call(2) }
#endif
#ifdef LATE_RPC
  :: d_step { CALLABLE(1) && n == 0 && late == 0 -> late = mine }
  :: d_step { late != 0 ->
      if
#ifndef MUTANT_OLD_REQUEST
      :: late < AT(1, n) -> skip
#endif
      :: else -> AT(1, n) = LANDED(late)
      fi;
      late = 0
    }
#endif

  :: d_step { IN_BALLOT && (voters & BIT(WITNESS)) && !wrote && fly == 0 -> fly = mine }
#ifdef MUTANT_GHOST
  :: d_step { IN_BALLOT && (voters & BIT(WITNESS)) && !wrote && fly != 0 && fly != mine &&
      stale == 0 -> stale = fly; fly = mine }
#endif
  :: d_step { fly != 0 ->
      AT(WITNESS, n) = LANDED(fly);
      wrote = (IN_BALLOT && fly == mine);
      fly = 0
    }
  :: d_step { stale != 0 -> AT(WITNESS, n) = LANDED(stale); stale = 0 }
  :: d_step { IN_BALLOT && wrote && !(seen & BIT(WITNESS)) -> read_others(WITNESS) }

#ifdef MUTANT_NO_ADOPT
  :: d_step { phase == PHASE_1 && MAJORITY(seen, NAMED(0)) && MAY_PROPOSE(n, 1) -> propose(1) }
  :: d_step { phase == PHASE_1 && MAJORITY(seen, NAMED(0)) && MAY_PROPOSE(n, 2) -> propose(2) }
  :: d_step { phase == PHASE_1 && MAJORITY(seen, NAMED(0)) && MAY_PROPOSE(n, 3) -> propose(3) }
#else
  :: d_step { FREE_CHOICE && MAY_PROPOSE(n, 1) -> propose(1) }
  :: d_step { FREE_CHOICE && MAY_PROPOSE(n, 2) -> propose(2) }
  :: d_step { FREE_CHOICE && MAY_PROPOSE(n, 3) -> propose(3) }
  :: d_step { phase == PHASE_1 && MAJORITY(seen, voters) && BAL(best) != 0 ->
      propose(VALUE(best)) }
#endif
  :: d_step { phase == PHASE_2 && MAJORITY(seen, NAMED(VALUE(mine))) ->
      value = VALUE(mine);
      learn(value)
    }

  /* The decided record, from the witness or another node. It is there as soon as its author has
     decided; that nobody finds it yet is included, as nobody must look. */
  :: d_step { epoch < 3 && decided[epoch] != 0 ->
      value = decided[epoch];
      learn(value)
    }
#ifdef MUTANT_LEARN_BLOCK
  :: d_step { epoch < 3 && EPOCH(AT(WITNESS, 1 - n)) == epoch && BAL(AT(WITNESS, 1 - n)) != 0 ->
      value = VALUE(AT(WITNESS, 1 - n));
      learn(value)
    }
#endif
#ifdef MUTANT_LEARN_MAJORITY
  :: d_step { epoch == 1 && EPOCH(AT(WITNESS, 1 - n)) == 1 && BAL(AT(WITNESS, 1 - n)) != 0 &&
      AT(WITNESS, 1 - n) == AT(n, 1 - n) ->
      value = VALUE(AT(n, 1 - n));
      learn(value)
    }
#endif

#ifdef MUTANT_ANSWER_FIRST
  :: d_step { on_disk[n * NODES] != AT(n, 0) -> on_disk[n * NODES] = AT(n, 0) }
  :: d_step { on_disk[n * NODES + 1] != AT(n, 1) -> on_disk[n * NODES + 1] = AT(n, 1) }
#endif
#ifdef PROGRESS
  :: n == 1 -> dead[1] = true; break
#else
  :: d_step { crashes < CRASHES && (IN_BALLOT || mine != 0 || CAN_FORGET) -> crash() }
#endif
  :: d_step { phase == RECOVERS ->
#ifndef MUTANT_NO_OWN_PREEMPT
      stale = 0;
#endif
      phase = REREADS
    }
  :: d_step { REREADABLE(0) -> reread(0) }
  :: d_step { REREADABLE(1) -> reread(1) }
#if NODES == 3
  :: d_step { REREADABLE(2) -> reread(2) }
#endif
  :: d_step { REREADABLE(WITNESS) -> reread(WITNESS) }
#ifdef MUTANT_RECOVER_AT_WITNESS
  :: d_step { phase == REREADS && (seen & BIT(WITNESS)) -> phase = IDLE; seen = 0 }
#else
  :: d_step { phase == REREADS && MAJORITY(seen, voters) -> phase = IDLE; seen = 0 }
#endif
  od
}

#ifdef PROGRESS
ltl progress { [] (dead[1] -> <> (KNOWN(0, 1) != 0)) }
#endif
