/* y = a + b.  Backward: da = dy, db = dy.
 * in: a, b of one shape [N,d]; out: y. In place on a; a's gradient may share dy's buffer. */
#pragma once
enum { ADD_A, ADD_B };
