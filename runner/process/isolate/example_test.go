package isolate_test

import (
	"fmt"
	"os"
	"syscall"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// A program runs in a box, without a network, and to its end. Each error says
// what is wrong: with the host at Plan, with the program at Started.
func ExampleHost_Plan() {
	plan, err := isolate.Open().Plan(isolate.Box{Isolate: true, Network: navvy.NetworkNone, Dir: "/"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer plan.Close()
	status, err := plan.Status()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer status.Close()
	sys := &syscall.SysProcAttr{}
	plan.Set(sys)
	pid, err := syscall.ForkExec(plan.Path(), plan.Args("/bin/sh", []string{"sh", "-c", "exit 3"}), &syscall.ProcAttr{
		Env: plan.Env(os.Environ()), Files: append([]uintptr{0, 1, 2}, status.Files()...), Sys: sys,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := status.Started(); err != nil {
		fmt.Println(err)
	}
	_, _ = syscall.Wait4(pid, nil, 0, nil)
	exit, known, err := status.Exit()
	fmt.Println(exit.ExitStatus(), known, err)
}
