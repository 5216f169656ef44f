/* Rotary embedding, half rotation (pairs i, i + dim/2 of each head; formats.md 4.3):
 * y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin.  Backward: the inverse rotation of dy.
 * in: x [N, heads*dim], table [N, dim] of rope_table; out: y. In place on x; x's gradient may share dy's buffer. */
#pragma once
enum { ROPE_X, ROPE_TABLE_IN };
