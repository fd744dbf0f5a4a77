// Package boot makes the tiny init of isolated processes: some hundred bytes of
// machine code that make a list of system calls, start a program and, as the
// first process of a PID namespace, look after it. Go writes the list, so what is
// called and why is Go; the code (boot_*.s) knows nothing but how to call. It
// becomes an executable of two pages in memory: there is no file to install, no
// compiler and no shell in it, and executing it costs little more than a fork.
//
// As an init it blocks all signals, makes the calls of Program.Before, starts the
// task (after the calls of Program.After), and then waits. It reaps whatever
// ends, tells the status pipe how the main process did, passes signals on to all
// other processes of its namespace, SIGTERM with a SIGCONT behind it, and exits
// when there is none left. To kill it kills them all.
package boot
