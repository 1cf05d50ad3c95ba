#include "textflag.h"

// One word of each of eight lanes: sum ^= word; sum = sum*prime ^ sum>>17.
#define MIX(sum, t) \
	VPSRLD  $17, sum, t   \
	VPMULLD Y8, sum, sum  \
	VPXOR   t, sum, sum

#define ROUND \
	MIX(Y0, Y4) \
	MIX(Y1, Y5) \
	MIX(Y2, Y6) \
	MIX(Y3, Y7)

// func sumAVX2(page []byte, sums *[32]uint32, folded *[8]uint32)
TEXT ·sumAVX2(SB), NOSPLIT, $0-40
	MOVQ         page_base+0(FP), SI
	MOVQ         page_len+8(FP), CX
	MOVQ         sums+24(FP), DX
	MOVQ         folded+32(FP), DI
	MOVL         $16777619, AX
	MOVQ         AX, X8
	VPBROADCASTD X8, Y8
	VMOVDQU      0(DX), Y0
	VMOVDQU      32(DX), Y1
	VMOVDQU      64(DX), Y2
	VMOVDQU      96(DX), Y3

row:
	VPXOR 0(SI), Y0, Y0
	VPXOR 32(SI), Y1, Y1
	VPXOR 64(SI), Y2, Y2
	VPXOR 96(SI), Y3, Y3
	ROUND
	ADDQ  $128, SI
	SUBQ  $128, CX
	JA    row

	// Two rounds of zeros.
	ROUND
	ROUND
	VPXOR   Y1, Y0, Y0
	VPXOR   Y3, Y2, Y2
	VPXOR   Y2, Y0, Y0
	VMOVDQU Y0, (DI)
	VZEROUPPER
	RET
