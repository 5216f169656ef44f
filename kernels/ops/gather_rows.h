/* y[m,:] = x[rows[m],:]: keeps the rows whose output is needed. Backward: dx[rows[m],:] += dy[m,:], other rows 0.
 * in: x [N,d], rows [M] i32 strictly increasing; out: y [M,d] */
#pragma once
enum { GATHER_ROWS_X, GATHER_ROWS_ROWS };
