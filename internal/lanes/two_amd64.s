#include "textflag.h"

// Two messages take their steps in turn, so that the one's SHA256RNDS2 need not wait for
// the other's. X1 and X2 are the state of the first one, X3 to X6 its next 16 words; X7
// and X8 the state of the second one, X9 to X12 its words. X0 is what SHA256RNDS2 adds,
// words and constants, X13 and X14 keep the upper half of it. VEX instructions do not
// want aligned memory, nor a copy of what they would overwrite.

// Four rounds of both messages, with the words w and v; the last two of them are made by LATE.
#define EARLY(k, w, v) \
	VPADDD      k*16(AX), w, X0 \
	VPSHUFD     $0x0e, X0, X13  \
	SHA256RNDS2 X0, X1, X2      \
	VPADDD      k*16(AX), v, X0 \
	VPSHUFD     $0x0e, X0, X14  \
	SHA256RNDS2 X0, X7, X8

#define LATE \
	VMOVDQA     X13, X0    \
	SHA256RNDS2 X0, X2, X1 \
	VMOVDQA     X14, X0    \
	SHA256RNDS2 X0, X8, X7

// The second half of the schedule of the next four words, from those of now and the four before.
#define NEXT(before, now, next) \
	VPALIGNR   $4, before, now, X0 \
	VPADDD     X0, next, next      \
	SHA256MSG2 now, next

#define READ(k, w, v) \
	VMOVDQU k*16(SI), w \
	VPSHUFB X15, w, w   \
	VMOVDQU k*16(DI), v \
	VPSHUFB X15, v, v   \
	EARLY(k, w, v)

#define ROUNDS(k, before, w, next, beforeV, v, nextV) \
	EARLY(k, w, v)          \
	NEXT(before, w, next)   \
	NEXT(beforeV, v, nextV) \
	LATE                    \
	SHA256MSG1 w, before    \
	SHA256MSG1 v, beforeV

// func blocks2(first, second *state, a, b *byte, stride, n int)
TEXT ·blocks2(SB), NOSPLIT, $0-48
	MOVQ       first+0(FP), DX
	MOVQ       second+8(FP), BX
	MOVQ       a+16(FP), SI
	MOVQ       b+24(FP), DI
	MOVQ       stride+32(FP), R8
	MOVQ       n+40(FP), CX
	LEAQ       ·roundConstants(SB), AX
	VZEROUPPER
	VMOVDQU    ·swap(SB), X15
	VMOVDQU    0(DX), X1
	VMOVDQU    16(DX), X2
	VMOVDQU    0(BX), X7
	VMOVDQU    16(BX), X8

block:
	READ(0, X3, X9)
	LATE
	READ(1, X4, X10)
	LATE
	SHA256MSG1 X4, X3
	SHA256MSG1 X10, X9
	READ(2, X5, X11)
	LATE
	SHA256MSG1 X5, X4
	SHA256MSG1 X11, X10
	READ(3, X6, X12)
	NEXT(X5, X6, X3)
	NEXT(X11, X12, X9)
	LATE
	SHA256MSG1 X6, X5
	SHA256MSG1 X12, X11
	ROUNDS(4, X6, X3, X4, X12, X9, X10)
	ROUNDS(5, X3, X4, X5, X9, X10, X11)
	ROUNDS(6, X4, X5, X6, X10, X11, X12)
	ROUNDS(7, X5, X6, X3, X11, X12, X9)
	ROUNDS(8, X6, X3, X4, X12, X9, X10)
	ROUNDS(9, X3, X4, X5, X9, X10, X11)
	ROUNDS(10, X4, X5, X6, X10, X11, X12)
	ROUNDS(11, X5, X6, X3, X11, X12, X9)
	ROUNDS(12, X6, X3, X4, X12, X9, X10)
	EARLY(13, X4, X10)
	NEXT(X3, X4, X5)
	NEXT(X9, X10, X11)
	LATE
	EARLY(14, X5, X11)
	NEXT(X4, X5, X6)
	NEXT(X10, X11, X12)
	LATE
	EARLY(15, X6, X12)
	LATE
	VPADDD  0(DX), X1, X1
	VPADDD  16(DX), X2, X2
	VPADDD  0(BX), X7, X7
	VPADDD  16(BX), X8, X8
	VMOVDQU X1, 0(DX)
	VMOVDQU X2, 16(DX)
	VMOVDQU X7, 0(BX)
	VMOVDQU X8, 16(BX)
	ADDQ    R8, SI
	ADDQ    R8, DI
	DECQ    CX
	JNZ     block
	RET
