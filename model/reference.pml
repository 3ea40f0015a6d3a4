/* What jobsync replaces, to show that the claim has teeth: tokens are dealt by deleting and inserting the whole table from the
 * list of nodes whose heartbeat is fresh, and every node keeps the set that it polled last, with no lease. */
#define N 2
#define TIMEOUT 2

bool alive[N];
bool believed[N];
byte owner = N;
byte age[N];                            /* of the heartbeat, in ticks */

active proctype world() {
  byte i, k;
  d_step { alive[0] = 1; alive[1] = 1 }
  do
  :: atomic { for (k : 0 .. N - 1) { if :: age[k] < TIMEOUT -> age[k]++ :: else fi } k = 0 }
  :: atomic {
       select(i : 0 .. N - 1);
       if
       :: age[i] = 0                                                      /* a heartbeat */
       :: believed[i] = (owner == i)                                      /* a poll */
       :: age[i] < TIMEOUT -> owner = i                                   /* any rebalance */
       :: age[i] >= TIMEOUT && age[1 - i] < TIMEOUT -> owner = 1 - i      /* the sweep of the dead */
       fi;
       i = 0;
       assert(!(alive[0] && alive[1] && believed[0] && believed[1]))
     }
  od
}
