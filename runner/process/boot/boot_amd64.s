#include "textflag.h"

// The layout of the data, and the numbers of reports: image.go and report.go
// have the same.
#define DATA     0x601000
#define BEFORE   0
#define AFTER    8
#define SETTLE   16
#define INIT     24
#define STATUS   32
#define FAILED   40
#define RECORD   48
#define WAITED   64
#define SIGNALS  72

#define SYS_write           1
#define SYS_rt_sigtimedwait 128
#define SYS_getpid          39
#define SYS_clone           56
#define SYS_execve          59
#define SYS_wait4           61
#define SYS_kill            62
#define SYS_exit_group      231

// program is the init: it runs with no Go around it, as the whole code of a
// process, at another address than here. It touches no stack, since after clone
// two processes share it, and calls nothing.
//
//	R12  the data
//	R13  the call that is made, R14 its index, R15 its phase
//	BX   the main process
TEXT program<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ $DATA, R12
	MOVQ BEFORE(R12), R13
	XORL R14, R14
	XORL R15, R15

call:
	MOVQ 0(R13), AX
	CMPQ AX, $-1
	JEQ  end
	MOVQ 8(R13), DI
	MOVQ 16(R13), SI
	MOVQ 24(R13), DX
	MOVQ 32(R13), R10
	MOVQ 40(R13), R8
	MOVQ 48(R13), R9
	SYSCALL
	CMPQ AX, $-4095
	JCC  error

next:
	ADDQ $64, R13
	INCL R14
	JMP  call

error:
	NEGQ AX
	MOVQ 56(R13), CX
	CMPQ CX, $-1
	JEQ  next
	CMPQ CX, AX
	JEQ  next

fail:
	// Tell what failed, the phase in R15, the index in R14, the errno in AX, and end.
	MOVQ $1, FAILED(R12)
	MOVL R15, RECORD(R12)
	MOVL R14, (RECORD+4)(R12)
	MOVQ AX, (RECORD+8)(R12)
	MOVL $SYS_write, AX
	MOVQ STATUS(R12), DI
	LEAQ RECORD(R12), SI
	MOVL $16, DX
	SYSCALL
	MOVL $127, DI

exit:
	MOVL $SYS_exit_group, AX
	SYSCALL

end:
	// The calls of a phase are done: 0 before, 1 after, 2 settle.
	CMPL R15, $1
	JEQ  exec
	JHI  wait
	CMPQ INIT(R12), $0
	JEQ  after

	// Signals are passed on to all processes that there are: only as the first
	// one of a namespace are these the task's.
	MOVL $SYS_getpid, AX
	SYSCALL
	MOVL $7, R15
	CMPQ AX, $1
	JNE  fail

	// The parent sleeps until its child has become another program, or ended.
	MOVL $SYS_clone, AX
	MOVL $0x4111, DI // CLONE_VM | CLONE_VFORK | SIGCHLD
	XORL SI, SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	SYSCALL
	MOVL $5, R15
	CMPQ AX, $-4095
	JCC  negate
	TESTQ AX, AX
	JEQ  after
	MOVQ AX, BX
	MOVL $127, DI
	CMPQ FAILED(R12), $0
	JNE  exit
	MOVL $3, RECORD(R12)
	MOVL BX, (RECORD+4)(R12)
	MOVQ $0, (RECORD+8)(R12)
	MOVL $SYS_write, AX
	MOVQ STATUS(R12), DI
	LEAQ RECORD(R12), SI
	MOVL $16, DX
	SYSCALL
	MOVQ SETTLE(R12), R13
	XORL R14, R14
	MOVL $2, R15
	JMP  call

negate:
	NEGQ AX
	JMP  fail

after:
	MOVQ AFTER(R12), R13
	XORL R14, R14
	MOVL $1, R15
	JMP  call

exec:
	// The first argument is the program, the others are its arguments.
	MOVQ 0(SP), CX
	MOVL $SYS_execve, AX
	MOVQ 8(SP), DI
	LEAQ 16(SP), SI
	LEAQ 16(SP)(CX*8), DX
	SYSCALL
	MOVL $6, R15
	JMP  negate

wait:
	MOVL $SYS_rt_sigtimedwait, AX
	LEAQ SIGNALS(R12), DI
	XORL SI, SI
	XORL DX, DX
	MOVL $8, R10
	SYSCALL
	CMPQ AX, $17 // SIGCHLD
	JEQ  reap
	TESTQ AX, AX
	JLE  wait    // EINTR
	MOVQ AX, R13
	MOVQ AX, SI
	MOVL $SYS_kill, AX
	MOVQ $-1, DI
	SYSCALL
	CMPQ R13, $15 // SIGTERM
	JNE  wait
	MOVL $SYS_kill, AX
	MOVQ $-1, DI
	MOVL $18, SI // SIGCONT
	SYSCALL
	JMP  wait

reap:
	MOVL $SYS_wait4, AX
	MOVQ $-1, DI
	LEAQ WAITED(R12), SI
	MOVL $0x40000001, DX // __WALL | WNOHANG
	XORL R10, R10
	SYSCALL
	XORL DI, DI
	TESTQ AX, AX
	JEQ  wait
	JLT  exit // ECHILD: nobody is left
	CMPQ AX, BX
	JNE  reap
	MOVL $4, RECORD(R12)
	MOVL WAITED(R12), CX
	MOVQ CX, (RECORD+8)(R12)
	MOVL $SYS_write, AX
	MOVQ STATUS(R12), DI
	LEAQ RECORD(R12), SI
	MOVL $16, DX
	SYSCALL
	JMP  reap

	// Where the copy ends.
	BYTE $'n'; BYTE $'a'; BYTE $'v'; BYTE $'v'; BYTE $'y'; BYTE $' '; BYTE $'e'; BYTE $'n'
	BYTE $'d'; BYTE $'s'; BYTE $' '; BYTE $'h'; BYTE $'e'; BYTE $'r'; BYTE $'e'; BYTE $0

// func entry() uintptr
TEXT ·entry(SB), NOSPLIT, $0-8
	LEAQ program<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET
