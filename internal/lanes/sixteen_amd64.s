#include "textflag.h"

// Sixteen messages, a lane of each register for each. Z0 to Z7 are their working variables a
// to h, Z8 to Z23 the sixteen words of their schedule (FIPS 180-4, 6.2.2) that are needed
// next, Z24 to Z31 are for passing use.

// x and y become the lower and the upper halves of both, interleaved in units of 32 or 64 bits.
#define ZIP32(x, y) \
	VPUNPCKLDQ y, x, Z24 \
	VPUNPCKHDQ y, x, y   \
	VMOVDQA64  Z24, x

#define ZIP64(x, y) \
	VPUNPCKLQDQ y, x, Z24 \
	VPUNPCKHQDQ y, x, y   \
	VMOVDQA64   Z24, x

// x becomes the even quarters of both, y the odd ones.
#define QUARTERS(x, y) \
	VSHUFI32X4 $0x88, y, x, Z24 \
	VSHUFI32X4 $0xdd, y, x, y   \
	VMOVDQA64  Z24, x

#define READ(lane, w) \
	MOVQ      lane*8(SI), R8 \
	VMOVDQU32 (R8)(DI*1), w  \
	VPSHUFB   Z31, w, w

// Round k, with its word.
#define ROUND(k, a, b, c, d, e, f, g, h, w) \
	VPADDD.BCST k*4(AX), w, Z24       \
	VPRORD      $6, e, Z25            \
	VPRORD      $11, e, Z26           \
	VPRORD      $25, e, Z27           \
	VMOVDQA32   e, Z28                \
	VPADDD      Z24, h, h             \
	VPTERNLOGD  $0xca, g, f, Z28      \
	VPTERNLOGD  $0x96, Z26, Z25, Z27  \
	VPADDD      Z28, h, h             \
	VPRORD      $2, a, Z25            \
	VPRORD      $13, a, Z26           \
	VPADDD      Z27, h, h             \
	VPRORD      $22, a, Z24           \
	VMOVDQA32   a, Z29                \
	VPADDD      h, d, d               \
	VPTERNLOGD  $0xe8, c, b, Z29      \
	VPTERNLOGD  $0x96, Z26, Z25, Z24  \
	VPADDD      Z29, h, h             \
	VPADDD      Z24, h, h

// The word that comes sixteen after w: w1 follows w, w9 and w14 come nine and fourteen later.
#define NEXT(w, w1, w9, w14) \
	VPRORD     $7, w1, Z28          \
	VPRORD     $18, w1, Z29         \
	VPSRLD     $3, w1, Z30          \
	VPADDD     w9, w, w             \
	VPTERNLOGD $0x96, Z29, Z28, Z30 \
	VPRORD     $17, w14, Z28        \
	VPRORD     $19, w14, Z29        \
	VPADDD     Z30, w, w            \
	VPSRLD     $10, w14, Z30        \
	VPTERNLOGD $0x96, Z29, Z28, Z30 \
	VPADDD     Z30, w, w

// func blocks16(states *[8][16]uint32, from *[16]*byte, stride, n int)
TEXT ·blocks16(SB), NOSPLIT, $0-32
	MOVQ            states+0(FP), DX
	MOVQ            from+8(FP), SI
	MOVQ            stride+16(FP), R9
	MOVQ            n+24(FP), CX
	XORQ            DI, DI
	LEAQ            ·roundConstants(SB), AX
	VBROADCASTI32X4 ·swap(SB), Z31
	VMOVDQU32       0(DX), Z0
	VMOVDQU32       64(DX), Z1
	VMOVDQU32       128(DX), Z2
	VMOVDQU32       192(DX), Z3
	VMOVDQU32       256(DX), Z4
	VMOVDQU32       320(DX), Z5
	VMOVDQU32       384(DX), Z6
	VMOVDQU32       448(DX), Z7

block:
	READ(0, Z8)
	READ(1, Z9)
	READ(2, Z10)
	READ(3, Z11)
	READ(4, Z12)
	READ(5, Z13)
	READ(6, Z14)
	READ(7, Z15)
	READ(8, Z16)
	READ(9, Z17)
	READ(10, Z18)
	READ(11, Z19)
	READ(12, Z20)
	READ(13, Z21)
	READ(14, Z22)
	READ(15, Z23)
	ZIP32(Z8, Z9)
	ZIP32(Z10, Z11)
	ZIP32(Z12, Z13)
	ZIP32(Z14, Z15)
	ZIP32(Z16, Z17)
	ZIP32(Z18, Z19)
	ZIP32(Z20, Z21)
	ZIP32(Z22, Z23)
	ZIP64(Z8, Z10)
	ZIP64(Z9, Z11)
	ZIP64(Z12, Z14)
	ZIP64(Z13, Z15)
	ZIP64(Z16, Z18)
	ZIP64(Z17, Z19)
	ZIP64(Z20, Z22)
	ZIP64(Z21, Z23)
	QUARTERS(Z8, Z12)
	QUARTERS(Z9, Z13)
	QUARTERS(Z10, Z14)
	QUARTERS(Z11, Z15)
	QUARTERS(Z16, Z20)
	QUARTERS(Z17, Z21)
	QUARTERS(Z18, Z22)
	QUARTERS(Z19, Z23)
	QUARTERS(Z8, Z16)
	QUARTERS(Z9, Z17)
	QUARTERS(Z10, Z18)
	QUARTERS(Z11, Z19)
	QUARTERS(Z12, Z20)
	QUARTERS(Z13, Z21)
	QUARTERS(Z14, Z22)
	QUARTERS(Z15, Z23)
	ROUND(0, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8)
	NEXT(Z8, Z10, Z18, Z21)
	ROUND(1, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z10)
	NEXT(Z10, Z9, Z17, Z23)
	ROUND(2, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z9)
	NEXT(Z9, Z11, Z19, Z8)
	ROUND(3, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z11)
	NEXT(Z11, Z12, Z20, Z10)
	ROUND(4, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z12)
	NEXT(Z12, Z14, Z22, Z9)
	ROUND(5, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z14)
	NEXT(Z14, Z13, Z21, Z11)
	ROUND(6, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z13)
	NEXT(Z13, Z15, Z23, Z12)
	ROUND(7, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z15)
	NEXT(Z15, Z16, Z8, Z14)
	ROUND(8, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z16)
	NEXT(Z16, Z18, Z10, Z13)
	ROUND(9, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z18)
	NEXT(Z18, Z17, Z9, Z15)
	ROUND(10, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z17)
	NEXT(Z17, Z19, Z11, Z16)
	ROUND(11, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z19)
	NEXT(Z19, Z20, Z12, Z18)
	ROUND(12, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z20)
	NEXT(Z20, Z22, Z14, Z17)
	ROUND(13, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z22)
	NEXT(Z22, Z21, Z13, Z19)
	ROUND(14, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z21)
	NEXT(Z21, Z23, Z15, Z20)
	ROUND(15, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z23)
	NEXT(Z23, Z8, Z16, Z22)
	ROUND(16, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8)
	NEXT(Z8, Z10, Z18, Z21)
	ROUND(17, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z10)
	NEXT(Z10, Z9, Z17, Z23)
	ROUND(18, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z9)
	NEXT(Z9, Z11, Z19, Z8)
	ROUND(19, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z11)
	NEXT(Z11, Z12, Z20, Z10)
	ROUND(20, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z12)
	NEXT(Z12, Z14, Z22, Z9)
	ROUND(21, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z14)
	NEXT(Z14, Z13, Z21, Z11)
	ROUND(22, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z13)
	NEXT(Z13, Z15, Z23, Z12)
	ROUND(23, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z15)
	NEXT(Z15, Z16, Z8, Z14)
	ROUND(24, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z16)
	NEXT(Z16, Z18, Z10, Z13)
	ROUND(25, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z18)
	NEXT(Z18, Z17, Z9, Z15)
	ROUND(26, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z17)
	NEXT(Z17, Z19, Z11, Z16)
	ROUND(27, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z19)
	NEXT(Z19, Z20, Z12, Z18)
	ROUND(28, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z20)
	NEXT(Z20, Z22, Z14, Z17)
	ROUND(29, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z22)
	NEXT(Z22, Z21, Z13, Z19)
	ROUND(30, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z21)
	NEXT(Z21, Z23, Z15, Z20)
	ROUND(31, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z23)
	NEXT(Z23, Z8, Z16, Z22)
	ROUND(32, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8)
	NEXT(Z8, Z10, Z18, Z21)
	ROUND(33, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z10)
	NEXT(Z10, Z9, Z17, Z23)
	ROUND(34, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z9)
	NEXT(Z9, Z11, Z19, Z8)
	ROUND(35, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z11)
	NEXT(Z11, Z12, Z20, Z10)
	ROUND(36, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z12)
	NEXT(Z12, Z14, Z22, Z9)
	ROUND(37, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z14)
	NEXT(Z14, Z13, Z21, Z11)
	ROUND(38, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z13)
	NEXT(Z13, Z15, Z23, Z12)
	ROUND(39, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z15)
	NEXT(Z15, Z16, Z8, Z14)
	ROUND(40, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z16)
	NEXT(Z16, Z18, Z10, Z13)
	ROUND(41, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z18)
	NEXT(Z18, Z17, Z9, Z15)
	ROUND(42, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z17)
	NEXT(Z17, Z19, Z11, Z16)
	ROUND(43, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z19)
	NEXT(Z19, Z20, Z12, Z18)
	ROUND(44, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z20)
	NEXT(Z20, Z22, Z14, Z17)
	ROUND(45, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z22)
	NEXT(Z22, Z21, Z13, Z19)
	ROUND(46, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z21)
	NEXT(Z21, Z23, Z15, Z20)
	ROUND(47, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z23)
	NEXT(Z23, Z8, Z16, Z22)
	ROUND(48, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8)
	ROUND(49, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z10)
	ROUND(50, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z9)
	ROUND(51, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z11)
	ROUND(52, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z12)
	ROUND(53, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z14)
	ROUND(54, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z13)
	ROUND(55, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z15)
	ROUND(56, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z16)
	ROUND(57, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z18)
	ROUND(58, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z17)
	ROUND(59, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z19)
	ROUND(60, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z20)
	ROUND(61, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z22)
	ROUND(62, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z21)
	ROUND(63, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z23)
	VPADDD    0(DX), Z0, Z0
	VPADDD    64(DX), Z1, Z1
	VPADDD    128(DX), Z2, Z2
	VPADDD    192(DX), Z3, Z3
	VPADDD    256(DX), Z4, Z4
	VPADDD    320(DX), Z5, Z5
	VPADDD    384(DX), Z6, Z6
	VPADDD    448(DX), Z7, Z7
	VMOVDQU32 Z0, 0(DX)
	VMOVDQU32 Z1, 64(DX)
	VMOVDQU32 Z2, 128(DX)
	VMOVDQU32 Z3, 192(DX)
	VMOVDQU32 Z4, 256(DX)
	VMOVDQU32 Z5, 320(DX)
	VMOVDQU32 Z6, 384(DX)
	VMOVDQU32 Z7, 448(DX)
	ADDQ      R9, DI
	DECQ      CX
	JNZ       block
	VZEROUPPER
	RET
