#include "textflag.h"

// Y4 has eight words of data. Those of one key are added to them, the even ones multiplied
// by the odd ones, and the four products added to SUM.
#define PASS(number, offset, SUM, A, B) \
	VPADDD   number*2048+offset(SI)(AX*1), Y4, A \
	VPSRLQ   $32, A, B                           \
	VPMULUDQ A, B, A                             \
	VPADDQ   A, SUM, SUM

#define STEP(offset) \
	VMOVDQU offset(DX)(AX*1), Y4  \
	PASS(0, offset, Y0, Y5, Y6)   \
	PASS(1, offset, Y1, Y7, Y8)   \
	PASS(2, offset, Y2, Y9, Y10)  \
	PASS(3, offset, Y3, Y11, Y12)

// func multiplyAVX2(out *[1024]byte, words *[2048]uint32, data *byte, n int)
TEXT ·multiplyAVX2(SB), NOSPLIT, $0-32
	MOVQ out+0(FP), DI
	MOVQ words+8(FP), SI
	MOVQ data+16(FP), DX
	MOVQ n+24(FP), CX

block:
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	XORQ  AX, AX

step:
	STEP(0)
	STEP(32)
	ADDQ $64, AX
	CMPQ AX, $2048
	JB   step

	// The four products of each pass become one number, in the order of the passes.
	VPUNPCKLQDQ Y1, Y0, Y4
	VPUNPCKHQDQ Y1, Y0, Y5
	VPADDQ      Y5, Y4, Y4
	VPUNPCKLQDQ Y3, Y2, Y6
	VPUNPCKHQDQ Y3, Y2, Y7
	VPADDQ      Y7, Y6, Y6
	VPERM2I128  $0x20, Y6, Y4, Y5
	VPERM2I128  $0x31, Y6, Y4, Y7
	VPADDQ      Y7, Y5, Y5
	VMOVDQU     Y5, (DI)

	ADDQ $32, DI
	ADDQ $2048, DX
	DECQ CX
	JNZ  block
	VZEROUPPER
	RET
