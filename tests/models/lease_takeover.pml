/*
 * The lease of an evicted node, and when another may start what ran there:
 * docs/qdisk-models.md, "Lease and takeover".
 *
 * X runs a virtual machine while its lease lasts; Y evicts X. Voters are X, Y and the witness. X
 * asks them to renew and has a new lease when a majority has answered. Y writes phase-2 blocks to
 * them and has decided when a majority holds one; a voter that holds one answers X no more. Y takes
 * over when T has passed since the decision.
 *
 * Time goes in ticks. In a tick each clock (X's, that of X's watchdog, Y's) advances by SLOW or by
 * FAST, each as it likes. Between two steps of X, of Y or of a message any number of ticks may
 * pass: a pause of X is as long as it likes, but for the watchdog, which fires by itself.
 *
 * Asserted: at takeover X's virtual machine has stopped.
 *
 * T satisfies T (1 - r) >= (L + K + D) (1 + r) + e, with r = 1/5 for SLOW : FAST = 2 : 3 and e = 0.
 * X pets the watchdog only while the lease has at least D - K left. Between this look and the pet
 * lies any pause that the watchdog survives, up to D, so it fires at the latest
 * L - (D - K) + D + D = L + K + D after the renewal was sent; and with no pause at L + K.
 *
 * With REACH the assertion is that the watchdog never had to fire; it must fail. With LONG_T there
 * is the other way to the same: T for L + 2 D, and no D - K.
 *
 * Mutants, each with the guard that it removes:
 *   MUTANT_FROM_RECEIPT   a lease counts from before the send of what was acknowledged
 *   MUTANT_FROM_SIGHT     T counts from the decision, not from Y's last sight of X
 *   MUTANT_SHORT_T        T allows for the clocks
 *   MUTANT_BLIND_PET      the watchdog is petted after a look at the lease
 *   MUTANT_NO_MARGIN      that looks for D - K, not only whether it lasts
 *   MUTANT_LATE_START     a virtual machine is started only with the same margin
 *   MUTANT_ACK_ANYWAY     a voter that holds a phase-2 block does not answer X
 *   MUTANT_OTHER_ACK      an answer counts for its own request only
 *   MUTANT_ONE_ACK        a lease needs a majority
 */
#define L 12
#define K 2
#define D 8
#define SLOW 2
#define FAST 3
#ifdef MUTANT_SHORT_T
#define T (L + K + D)
#elif defined(LONG_T)
#define T ((L + 2 * D) * FAST / SLOW)
#else
#define T ((L + K + D) * FAST / SLOW)
#endif

#ifdef MUTANT_NO_MARGIN
#define MAY_PET (lease > 0)
#define MAY_START (lease >= D - K)
#elif defined(MUTANT_LATE_START)
#define MAY_PET (lease >= D - K)
#define MAY_START (lease > 0)
#elif defined(MUTANT_BLIND_PET)
#define MAY_PET true
#define MAY_START (lease >= D - K)
#else
#define MAY_PET (lease >= D - K)
#define MAY_START (lease >= D - K)
#endif

#define MIN(a, b) ((a) < (b) -> (a) : (b))
#define LESS(a, b) ((a) > (b) -> (a) - (b) : 0)

byte lease = L;      /* what is left of it, by X's clock */
byte watchdog = D;   /* until it fires; 0: it has, X is off */
bool runs = true;    /* the virtual machine */
bool pets;           /* X has looked, and is about to pet */
bool renews;         /* a renewal is under way */
byte age;            /* since before it was sent, by X's clock */
#define IDLE 0
#define ASKED 1
#define ANSWERED 2
byte asked[3];       /* by voter */

bool holds[3];       /* voters with a phase-2 block that leaves X out */
bool decided;
byte wait;           /* until Y may take over, by its clock */
bool over;

#define HOLD(a, b) (holds[a] && holds[b])
#define ANSWERS ((asked[0] == ANSWERED) + (asked[1] == ANSWERED) + (asked[2] == ANSWERED))
#ifdef MUTANT_ONE_ACK
#define ENOUGH (ANSWERS >= 1)
#else
#define ENOUGH (ANSWERS >= 2)
#endif
#ifdef MUTANT_ACK_ANYWAY
#define REFUSES(q) false
#else
#define REFUSES(q) holds[q]
#endif
#ifdef MUTANT_OTHER_ACK
#define ASK(q) asked[q] = (asked[q] == ANSWERED -> ANSWERED : ASKED)
#else
#define ASK(q) asked[q] = ASKED
#endif

inline rest() {
  renews = false;
  age = 0;
  asked[0] = IDLE;
  asked[1] = IDLE;
  asked[2] = IDLE
}

inline tick(x, w, y) {
  lease = LESS(lease, x);
  if
  :: renews -> age = MIN(age + x, L)
  :: else
  fi;
  watchdog = LESS(watchdog, w);
  wait = LESS(wait, y);
  if
  :: watchdog == 0 ->
    runs = false;
    pets = false;
    lease = 0;
    rest()
  :: else
  fi
}

#define ON (watchdog != 0)

active proctype Time() {
end:
  do
  :: d_step { !over -> tick(SLOW, SLOW, SLOW) }
  :: d_step { !over -> tick(SLOW, SLOW, FAST) }
  :: d_step { !over -> tick(SLOW, FAST, SLOW) }
  :: d_step { !over -> tick(SLOW, FAST, FAST) }
  :: d_step { !over -> tick(FAST, SLOW, SLOW) }
  :: d_step { !over -> tick(FAST, SLOW, FAST) }
  :: d_step { !over -> tick(FAST, FAST, SLOW) }
  :: d_step { !over -> tick(FAST, FAST, FAST) }
  od
}

active proctype X() {
end:
  do
  :: d_step { ON && !over && !pets && (MAY_PET || !runs) -> pets = true }
  :: d_step { pets && !over -> pets = false; watchdog = D }
  :: d_step { ON && !over && lease == 0 && runs -> runs = false }
  :: d_step { ON && !over && !runs && MAY_START -> runs = true }
  /* Also while an earlier renewal is under way, which is then given up. */
  :: d_step { ON && !over ->
      renews = true;
      age = 0;
      ASK(0);
      ASK(1);
      ASK(2)
    }
  :: d_step { renews && !over && ENOUGH ->
#ifdef MUTANT_FROM_RECEIPT
      lease = L;
#else
      lease = (lease > L - age -> lease : L - age);
#endif
      rest()
    }
  od
}

inline answer(q) {
  asked[q] = ANSWERED;
#ifdef MUTANT_FROM_SIGHT
  if
  :: q == 1 -> wait = T
  :: else
  fi
#endif
}

active proctype Voters() {
end:
  do
  :: d_step { asked[0] == ASKED && !over && !REFUSES(0) -> answer(0) }
  :: d_step { asked[1] == ASKED && !over && !REFUSES(1) -> answer(1) }
  :: d_step { asked[2] == ASKED && !over && !REFUSES(2) -> answer(2) }
  :: d_step { !holds[0] && !over -> holds[0] = true }
  :: d_step { !holds[1] && !over -> holds[1] = true }
  :: d_step { !holds[2] && !over -> holds[2] = true }
  od
}

active proctype Y() {
#ifdef MUTANT_FROM_SIGHT
  wait = T;
#endif
  d_step { HOLD(0, 1) || HOLD(0, 2) || HOLD(1, 2) ->
    decided = true;
#ifndef MUTANT_FROM_SIGHT
    wait = T
#endif
  }
  d_step { wait == 0 ->
    assert(!runs);
#ifdef REACH
    assert(ON);
#endif
    over = true
  }
}
