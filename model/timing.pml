/* The lemma on which ownership.pml stands, with clocks: when the observer's wait is over, the holder's lease is over.
 *
 * One holder, one observer, one kind of lease at a time, in ticks. The holder counts a lease of L ticks from just before it
 * sends; the observer waits H ticks of its own clock from when it SAW what it waits on. L stands for the lease at the holder's
 * slowest clock and H for the wait at the observer's fastest, so the drift of both is in L <= H (observer_wait_sec). Messages are
 * lost, and late by as much as they like; a paused holder is one that takes no step; an observer looks whenever it likes.
 *
 * RULE 1  A: the number of beats is the same for H ticks; any commit of the holder moves it
 * RULE 2  B: the bound session is gone for H ticks; only that session answers
 * RULE 3  the quarantine: seen after the fail-over, lifted H ticks later; the lost server answers no more
 *
 * Claim: where the step is taken, nothing is left of a lease, and no answer under way can bring one. Ages stop at L: an answer
 * as old as the lease is worth nothing, however old it is.
 */
#ifndef L
#define L 3
#endif
#ifndef H
#define H L
#endif
#ifndef RULE
#define RULE 1
#endif

byte lease;                             /* ticks left */
bit asked, answered;                    /* one question under way (the node asks one at a time) */
byte age;                               /* ticks since it was sent, at most L */
bit late;                               /* a beat that an earlier session left behind may still be carried out */
bit gone;                               /* rules B and 3: the session, or the server */
byte wait;                              /* 0: not begun; 1 + ticks since what is waited on was seen */

#if RULE == 1
#define CAN_ANSWER true
#define CAN_SEE true
#define COMMITTED wait = 0              /* the number moved: whoever waited begins anew */
#else
#define CAN_ANSWER (!gone)
#define CAN_SEE (gone)
#define COMMITTED skip
#endif

#if defined(MUT_DB_CLOCK)
#define WAITED (wait >= 1)              /* the database's clock may jump by any length */
#elif defined(MUT_TRUST)
#define WAITED (wait >= 1)              /* a session that ended is taken for a death */
#else
#define WAITED (wait > H)
#endif

#define WORTH(a) ((a) < L -> L - (a) : 0)

inline tick() {
  if :: lease > 0 -> lease-- :: else fi;
  if :: (asked || answered) && age < L -> age++ :: else fi;
  if :: wait > 0 && wait <= H -> wait++ :: else fi
}

active proctype world() {
end:
  do
  :: d_step { tick() }
  :: atomic { !asked && !answered -> asked = 1; age = 0 }
  :: atomic { asked && CAN_ANSWER -> asked = 0; answered = 1; COMMITTED }
  :: atomic { asked -> asked = 0; age = 0; late = 1 }                     /* given up; it may be carried out yet */
  :: atomic { late && CAN_ANSWER -> late = 0; COMMITTED }
  :: atomic { answered ->
#ifdef MUT_ACK
       lease = L;
#else
       if :: WORTH(age) > lease -> lease = WORTH(age) :: else fi;
#endif
       answered = 0; age = 0 }
  :: atomic { answered -> answered = 0; age = 0 }                         /* lost */
#if RULE != 1
  :: !gone -> gone = 1
#endif
  :: atomic { CAN_SEE && wait == 0 -> wait = 1 }
  :: atomic { WAITED ->
       assert(lease == 0);
#ifdef MUT_ACK
       assert(!answered);
#else
       assert(!answered || WORTH(age) == 0);
#endif
       wait = 0
#if RULE != 1
       ; gone = 0                                                         /* the next session, the next server */
#endif
     }
  od
}
