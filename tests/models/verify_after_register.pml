/*
 * Rule V, verify after register: docs/qdisk-models.md, "Verify after register".
 *
 * `Old` is the coordinator of a volume that it reaches by PATHS paths; `New` takes the volume over:
 * it evicts Old, or takes only the coordinator's role from it. Voters are Old, New and the witness.
 * New writes phase-2 blocks, has decided when a majority holds them, writes decided records at any
 * time after that, fences (preempt of all paths' registrations, then drain) or has Old relinquish,
 * and then writes itself. Old registers paths whenever it likes, before or after, is paused for any
 * time between any two steps, loses paths and restarts its daemon, which forgets everything while
 * its writes are still under way.
 *
 * Asserted: once New has written, the volume accepts no write of Old.
 *
 * A write is checked by the volume when it arrives; a preempt changes what comes after; what has
 * passed the check may land until it is drained. Order on a path: a REGISTER does not overtake an
 * earlier write of the same nexus.
 *
 * With REACH the assertion is that no path of an evicted Old is registered then; it must fail.
 *
 * Mutants, each with the guard that it removes:
 *   MUTANT_NO_RULE_V        no data on a path that was registered until a quorum read is favourable
 *   MUTANT_EARLY_READ       that began after the register had ended
 *   MUTANT_PREEMPT_FIRST    a fence begins after the decision
 *   MUTANT_DECIDED_ONLY     a quorum read is unfavourable if it finds a phase-2 block (RECORD_FIRST
 *                           makes New put decided records at a majority before it fences: then
 *                           Old may look at them only, and no assertion fails)
 *   MUTANT_REQUEUE          after a reservation conflict no path is registered again by itself
 *   MUTANT_NO_DRAIN         a fence drains after the preempt
 *   MUTANT_OVERTAKE         order on a path
 *   MUTANT_NO_RELINQUISH    New writes after Old has relinquished, if it takes only the role
 *   MUTANT_RELINQUISH_BUSY  Old relinquishes when all its writes have ended, also those of a daemon
 *                           before
 *   MUTANT_RELINQUISH_FIRST Old relinquishes after the decision, not before
 *   MUTANT_MEMBER_ONLY      a quorum read asks whether Old is coordinator, not only a member
 */
#ifndef PATHS
#define PATHS 2
#endif
#ifndef RESTARTS
#define RESTARTS 1
#endif
#define BIT(q) (1 << (q))
#define MAJORITY(m) ((m) == 3 || (m) == 5 || (m) == 6 || (m) == 7)

/* Acceptors, as bits: which hold New's phase-2 block, which the decided record. */
byte blocks, records;
bool decided;
bool evicts;         /* what is decided: Old is no member; otherwise only no coordinator */
bool new_has_written;

/* The volume. */
byte registered;     /* Old's paths, as bits */
byte sent[PATHS];    /* a write of Old on this path: NONE, WAY, RUNS */
#define NONE 0
#define WAY 1        /* has not come to the check; Old may have been paused before it sent it */
#define RUNS 2       /* has passed the check */
#define NO_WRITE(s) (sent[0] != (s) && sent[PATHS - 1] != (s))

bool asked;          /* to relinquish */
bool relinquished;

/* Old's view of a path. */
#define UNKNOWN 0
#define REGISTERS 1
#define REGISTERED 2
#define VERIFIED 3
byte path[PATHS];
byte covers;         /* paths that the quorum read under way speaks for */
byte reads;          /* acceptors it has read; bit 3: it is under way */
#define READING 8
bool stopped;        /* Old knows that it may not write */

#ifdef MUTANT_DECIDED_ONLY
#define AGAINST(q) (records & BIT(q))
#else
#define AGAINST(q) ((blocks | records) & BIT(q))
#endif
#ifdef MUTANT_MEMBER_ONLY
#define BAD(q) (AGAINST(q) && evicts)
#else
#define BAD(q) AGAINST(q)
#endif
#ifdef MUTANT_OVERTAKE
#define IN_ORDER(p) true
#else
#define IN_ORDER(p) (sent[p] != WAY)
#endif

#ifdef MUTANT_RELINQUISH_BUSY
#define IS_DRAINED true
#else
#define IS_DRAINED (NO_WRITE(WAY) && NO_WRITE(RUNS))
#endif

inline stop() {
  stopped = true;
  path[0] = UNKNOWN;
  path[PATHS - 1] = UNKNOWN;
  covers = 0;
  reads = 0
}

inline conflict(p) {
#ifdef MUTANT_REQUEUE
  path[p] = VERIFIED;
  registered = registered | BIT(p)
#else
  path[p] = UNKNOWN;
  covers = covers & (BIT(p) ^ 255)
#endif
}

inline verify(p) {
  if
  :: (covers & BIT(p)) && path[p] == REGISTERED -> path[p] = VERIFIED
  :: else
  fi
}

#define HAS(p, s) (path[p] == (s) -> BIT(p) : 0)
#if PATHS == 1
#define ALL_REGISTERED HAS(0, REGISTERED)
#else
#define ALL_REGISTERED (HAS(0, REGISTERED) | HAS(1, REGISTERED))
#endif
#ifdef MUTANT_EARLY_READ
#define MAY_READ (path[0] != UNKNOWN || path[PATHS - 1] != UNKNOWN)
#define COVERED_AT_END ALL_REGISTERED
#else
#define MAY_READ (ALL_REGISTERED != 0)
#define COVERED_AT_END covers
#endif

/* One path of Old, from the node to the volume. */
proctype Path(byte p) {
end:
  do
  :: d_step { !stopped && path[p] == UNKNOWN && IN_ORDER(p) -> path[p] = REGISTERS }
  :: d_step { path[p] == REGISTERS && IN_ORDER(p) ->
      registered = registered | BIT(p);
#ifdef MUTANT_NO_RULE_V
      path[p] = VERIFIED
#else
      path[p] = REGISTERED
#endif
    }
  :: d_step { path[p] == VERIFIED && !stopped && sent[p] == NONE -> sent[p] = WAY }
  :: d_step { sent[p] == WAY && (registered & BIT(p)) -> sent[p] = RUNS }
  :: d_step { sent[p] == WAY && !(registered & BIT(p)) -> sent[p] = NONE; conflict(p) }
  :: d_step { sent[p] == WAY -> sent[p] = NONE }  /* lost with its session */
  :: d_step { sent[p] == RUNS ->
      assert(!new_has_written);
      sent[p] = NONE
    }
  /* The session is lost: register and verify again. What it has sent may still be on the way. */
  :: d_step { path[p] != UNKNOWN -> path[p] = UNKNOWN; covers = covers & (BIT(p) ^ 255) }
  od
}

proctype Old() {
  byte restarts;
end:
  do
  :: d_step { !stopped && reads == 0 && MAY_READ -> reads = READING; covers = ALL_REGISTERED }
  :: d_step { (reads & READING) && !(reads & 1) && !BAD(0) -> reads = reads | 1 }
  :: d_step { (reads & READING) && !(reads & 2) && !BAD(1) -> reads = reads | 2 }
  :: d_step { (reads & READING) && !(reads & 4) && !BAD(2) -> reads = reads | 4 }
  :: d_step { (reads & READING) && (BAD(0) || BAD(1) || BAD(2)) -> stop() }
  :: d_step { (reads & READING) && MAJORITY(reads & 7) ->
      covers = COVERED_AT_END;
      verify(0);
#if PATHS == 2
      verify(1);
#endif
      covers = 0;
      reads = 0
    }
  :: d_step { asked && !relinquished && IS_DRAINED -> relinquished = true; stop() }
  :: d_step { restarts < RESTARTS ->
      restarts++;
      stop();
      stopped = false
    }
  od
}

#ifdef RECORD_FIRST
#define MAY_ACT MAJORITY(records)
#else
#define MAY_ACT decided
#endif

inline decide() {
  do
  :: MAJORITY(blocks) -> break
  :: d_step { !(blocks & 1) -> blocks = blocks | 1 }
  :: d_step { !(blocks & 2) -> blocks = blocks | 2 }
  :: d_step { !(blocks & 4) -> blocks = blocks | 4 }
  od;
  decided = true
}

inline fence() {
  registered = 0;
#ifndef MUTANT_NO_DRAIN
  NO_WRITE(RUNS)
#endif
}

proctype New() {
  if
  :: evicts = true
  :: skip
  fi;
#ifdef MUTANT_PREEMPT_FIRST
  if
  :: evicts -> fence()
  :: else
  fi;
#endif
#ifdef MUTANT_RELINQUISH_FIRST
  if
  :: !evicts -> asked = true; relinquished
  :: else
  fi;
#endif
  decide();
  MAY_ACT;
  if
#ifndef MUTANT_PREEMPT_FIRST
  :: evicts -> fence()
#else
  :: evicts
#endif
#ifdef MUTANT_NO_RELINQUISH
  :: !evicts
#else
  :: !evicts -> asked = true; relinquished
#endif
  fi;
  new_has_written = true;
#ifdef REACH
  assert(!(evicts && registered != 0))
#endif
}

/* Decided records appear at any time after the decision. */
proctype Recorder() {
  decided;
  do
  :: d_step { !(records & 1) -> records = records | 1 }
  :: d_step { !(records & 2) -> records = records | 2 }
  :: d_step { !(records & 4) -> records = records | 4 }
  :: records == 7 -> break
  od
}

init {
  atomic {
    run Path(0);
#if PATHS == 2
    run Path(1);
#endif
    run Old();
    run New();
    run Recorder()
  }
}
