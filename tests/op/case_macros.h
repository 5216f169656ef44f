/* Shorthands for lists of cases. */
#pragma once
#include "tests/op/common_case.h"

#define R1(a)                                                                                                          \
    { 'r', 1, {a, 0, 0}, NULL }
#define R2(a, b)                                                                                                       \
    { 'r', 2, {a, b, 0}, NULL }
#define R3(a, b, c)                                                                                                    \
    { 'r', 3, {a, b, c}, NULL }
#define I1(a, data)                                                                                                    \
    { 'i', 1, {a, 0, 0}, data }
#define K1(a, data)                                                                                                    \
    { 'k', 1, {a, 0, 0}, data }
#define W1(a)                                                                                                          \
    { 'w', 1, {a, 0, 0}, NULL }
#define V2(a, b, first)                                                                                                \
    { 'v', 2, {a, b, 0}, first }
#define ABSENT                                                                                                         \
    { 0, 0, {0, 0, 0}, NULL }
#define CASE(op, attr, label, training, ...)                                                                           \
    { label, op, attr, {__VA_ARGS__}, training }
