#include "textflag.h"

// The layout of the data, and the numbers of reports: image.go and report.go
// have the same.
#define DATA    0x601000
#define BEFORE  0
#define AFTER   8
#define SETTLE  16
#define INIT    24
#define STATUS  32
#define FAILED  40
#define RECORD  48
#define WAITED  64
#define SIGNALS 72

#define SYS_write           64
#define SYS_exit_group      94
#define SYS_kill            129
#define SYS_rt_sigtimedwait 137
#define SYS_getpid          172
#define SYS_clone           220
#define SYS_execve          221
#define SYS_wait4           260

// program is the init, as in boot_amd64.s, which explains it.
//
//	R20  the data
//	R21  the call that is made, R22 its index, R23 its phase
//	R24  the main process
TEXT program<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $DATA, R20
	MOVD BEFORE(R20), R21
	MOVD $0, R22
	MOVD $0, R23

call:
	MOVD 0(R21), R8
	CMN  $1, R8
	BEQ  end
	MOVD 8(R21), R0
	MOVD 16(R21), R1
	MOVD 24(R21), R2
	MOVD 32(R21), R3
	MOVD 40(R21), R4
	MOVD 48(R21), R5
	SVC
	CMN  $4095, R0
	BHS  error

next:
	ADD $64, R21
	ADD $1, R22
	B   call

error:
	NEG  R0, R0
	MOVD 56(R21), R9
	CMN  $1, R9
	BEQ  next
	CMP  R0, R9
	BEQ  next

fail:
	MOVD $1, R9
	MOVD R9, FAILED(R20)
	MOVW R23, RECORD(R20)
	MOVW R22, (RECORD+4)(R20)
	MOVD R0, (RECORD+8)(R20)
	MOVD STATUS(R20), R0
	ADD  $RECORD, R20, R1
	MOVD $16, R2
	MOVD $SYS_write, R8
	SVC
	MOVD $127, R0

exit:
	MOVD $SYS_exit_group, R8
	SVC

end:
	CMP  $1, R23
	BEQ  exec
	BHI  wait
	MOVD INIT(R20), R9
	CBZ  R9, after

	MOVD $SYS_getpid, R8
	SVC
	MOVD $7, R23
	CMP  $1, R0
	BNE  fail

	MOVD $0x4111, R0 // CLONE_VM | CLONE_VFORK | SIGCHLD
	MOVD $0, R1
	MOVD $0, R2
	MOVD $0, R3
	MOVD $0, R4
	MOVD $SYS_clone, R8
	SVC
	MOVD $5, R23
	CMN  $4095, R0
	BHS  negate
	CBZ  R0, after
	MOVD R0, R24
	MOVD $127, R0
	MOVD FAILED(R20), R9
	CBNZ R9, exit
	MOVD $3, R9
	MOVW R9, RECORD(R20)
	MOVW R24, (RECORD+4)(R20)
	MOVD ZR, (RECORD+8)(R20)
	MOVD STATUS(R20), R0
	ADD  $RECORD, R20, R1
	MOVD $16, R2
	MOVD $SYS_write, R8
	SVC
	MOVD SETTLE(R20), R21
	MOVD $0, R22
	MOVD $2, R23
	B    call

negate:
	NEG R0, R0
	B   fail

after:
	MOVD AFTER(R20), R21
	MOVD $0, R22
	MOVD $1, R23
	B    call

exec:
	MOVD 0(RSP), R9
	MOVD 8(RSP), R0
	ADD  $16, RSP, R1
	ADD  R9<<3, R1, R2
	MOVD $SYS_execve, R8
	SVC
	MOVD $6, R23
	B    negate

wait:
	ADD  $SIGNALS, R20, R0
	MOVD $0, R1
	MOVD $0, R2
	MOVD $8, R3
	MOVD $SYS_rt_sigtimedwait, R8
	SVC
	CMP  $17, R0 // SIGCHLD
	BEQ  reap
	CMP  $0, R0
	BLE  wait
	MOVD R0, R21
	MOVD R0, R1
	MOVD $-1, R0
	MOVD $SYS_kill, R8
	SVC
	CMP  $15, R21 // SIGTERM
	BNE  wait
	MOVD $-1, R0
	MOVD $18, R1  // SIGCONT
	MOVD $SYS_kill, R8
	SVC
	B    wait

reap:
	MOVD $-1, R0
	ADD  $WAITED, R20, R1
	MOVD $0x40000001, R2 // __WALL | WNOHANG
	MOVD $0, R3
	MOVD $SYS_wait4, R8
	SVC
	CBZ  R0, wait
	CMP  $0, R0
	BLT  ended
	CMP  R24, R0
	BNE  reap
	MOVD $4, R9
	MOVW R9, RECORD(R20)
	MOVWU WAITED(R20), R9
	MOVD R9, (RECORD+8)(R20)
	MOVD STATUS(R20), R0
	ADD  $RECORD, R20, R1
	MOVD $16, R2
	MOVD $SYS_write, R8
	SVC
	B    reap

ended:
	MOVD $0, R0 // ECHILD: nobody is left
	B    exit

	// Where the copy ends: "navvy ends here".
	WORD $0x7676616e
	WORD $0x6e652079
	WORD $0x68207364
	WORD $0x00657265

// func entry() uintptr
TEXT ·entry(SB), NOSPLIT, $0-8
	MOVD $program<>(SB), R0
	MOVD R0, ret+0(FP)
	RET
