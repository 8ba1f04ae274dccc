/* pack_format.h -- how the blobs of a part are laid out; private to pack_build.c, pack_cols.c and pack_read.c.
 *
 * lab   method (0: plain, 1: zstd), length of the plain form (varint), then it:
 *         version, flags (LAB_*), sets (varint), points (varint); points of each set (integers) unless LAB_SINGLE;
 *         a bit a set if LAB_REPLACES: is it replacing;  number of columns, then each, in order of the label's name:
 *           name (length, bytes), kind (COL_*);
 *           COL_PARTIAL: which sets have the label: a bit a set, or COL_SPARSE: their number, then 2 bytes each;
 *           number of values;
 *           COL_FAR: place and length of the values in raw;
 *           without COL_OWN, more than one value: a code for each set that has the label (1 byte up to 256 values, else 2);
 *           without COL_FAR: the values
 * values  form (FORM_*), for FORM_MIXED a form each; lengths of the texts (integers); ids of 16 bytes; texts
 * raw   values of one column after another, each behind its method (1 byte) and plain length (varint)
 * pts   version, time unit, scale of the values (or COLUMN_NO_SCALE), points (varint);
 *         first time of each set (integers, less that of the set before), then the distances of the other times, both in
 *         units; values: the same way but the first ones as they are, or 8 bytes each without a scale;
 *         number of late points (varint), their places (integers, distances), their ranks (integers)
 *
 * A rank: of points of one metric, generation and time, those with the greater (rank, place in the generation) arrived
 * later. Those that are not listed have rank 0. */
#pragma once
#include "store/limits.h"
#include "store/sample/ident.h"

#define PACK_VERSION 1
#define PACK_PLAIN 0
#define PACK_ZSTD 1
#define PACK_PLAIN_MAX ((size_t)512 << 20) /* bytes of one plain form */
#define PACK_LABELS_MAX ((size_t)32 << 20) /* labels of all sets of one part */
#define PACK_POINTS_MAX 65535              /* that a reader takes; a build may cut parts shorter */

#define LAB_SINGLE 1   /* each set has one point */
#define LAB_REPLACES 2 /* some sets are replacing */
#define COL_PARTIAL 1
#define COL_FAR 2
#define COL_OWN 4    /* far, and a value for each set: no codes */
#define COL_SPARSE 8 /* of the partial ones: few sets */

enum { FORM_TEXT = IDENT_TEXT, FORM_HEX = IDENT_HEX, FORM_UUID = IDENT_UUID, FORM_MIXED };
#define ID_BYTES IDENT_BYTES

/* A dictionary with more values or bytes is far: read only when the label is asked for. */
#ifndef XTRACE_SMALL_LIMITS
#define PACK_NEAR_VALUES 256
#define PACK_NEAR_BYTES 32768
#else
#define PACK_NEAR_VALUES 4
#define PACK_NEAR_BYTES 64
#endif

/* Order of arrival: generation << PACK_GEN_SHIFT | rank << PACK_RANK_SHIFT | part << PACK_PART_SHIFT | place in it. */
#define PACK_RANK_SHIFT 27
#define PACK_PART_SHIFT 16
#define PACK_RANK_MAX 65535

_Static_assert(SAMPLE_PACK_POINTS <= PACK_POINTS_MAX, "codes of two bytes");
